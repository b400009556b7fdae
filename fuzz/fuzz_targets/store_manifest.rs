//! Any bytes, or a sound manifest with any damage under a checksum that fits, as a store's manifest.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let part = fuzz::store::shared("MANIFEST");
    match data.split_first() {
        Some((0, bytes)) => part.read(bytes),
        Some((1, json)) => part.read(&sealed(json)),
        Some((_, edits)) => {
            let line = part.bytes.split(|&byte| byte == b'\n').next();
            let json = line.and_then(|line| line.splitn(4, |&byte| byte == b' ').nth(3));
            let mut json = json.expect("a sound manifest holds JSON").to_vec();
            fuzz::damage(&mut json, edits);
            part.read(&sealed(&json));
        }
        None => {}
    }
});

/// Two equal lines with a checksum of version and JSON.
fn sealed(json: &[u8]) -> Vec<u8> {
    let crc = crc32c::crc32c_append(crc32c::crc32c(b"1"), json);
    let line = [format!("aios-store 1 {crc:08x} ").as_bytes(), json, b"\n"].concat();
    line.repeat(2)
}
