//! Any bytes, or a sound file with any damage, as a weight file.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        Some((0, bytes)) => fuzz::read(bytes),
        Some((&keep, edits)) => {
            let mut file = fuzz::sound().to_vec();
            // Mostly whole, else cut at a share of its length.
            file.truncate(if keep < 128 {
                file.len()
            } else {
                file.len() * usize::from(keep) / 256
            });
            fuzz::damage(&mut file, edits);
            fuzz::read(&file);
        }
        None => {}
    }
});
