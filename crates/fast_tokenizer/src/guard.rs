//! Panics of the `tokenizers` crate as errors.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

static QUIET: Once = Once::new();

/// Runs code of the `tokenizers` crate, which asserts what a well-made tokenizer.json ensures: a
/// badly made one must end in an error, and in nothing on the user's terminal.
pub(crate) fn guarded<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    // The message of a panic is printed where it begins, before anybody can catch it.
    QUIET.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.try_with(Cell::get).unwrap_or(false) {
                usual(panic);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    GUARDED.set(outer);
    result.map_err(|panic| {
        let reason = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("unknown reason");
        format!("the tokenizer contradicts itself ({reason})")
    })
}
