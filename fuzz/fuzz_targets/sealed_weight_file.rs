//! A damaged footer under a checksum that fits: what a hostile writer could send.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let file = fuzz::sound();
    let start = fuzz::footer_start(file);
    let mut footer = file[start..file.len() - 8].to_vec();
    fuzz::damage(&mut footer, data);
    let end = [&footer[..], &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat();
    let seal = [&b"AIOW"[..], &crc32c::crc32c(&end).to_le_bytes()].concat();
    fuzz::read(&[&file[..start - seal.len()], &seal, &end].concat());
});
