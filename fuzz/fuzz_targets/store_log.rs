//! Any damage to a store's log, by chance or under checksums that fit.

#![no_main]

use libfuzzer_sys::fuzz_target;

/// Bytes of the log's header, and of a frame's.
const HEADER: usize = 32;

fuzz_target!(|data: &[u8]| {
    let part = fuzz::store::shared("log-");
    let (header, frames) = part.bytes.split_at(HEADER);
    match data.split_first() {
        Some((0, bytes)) => part.read(bytes),
        Some((1, frames)) => part.read(&[header, frames].concat()),
        Some((2, payload)) => part.read(&[header, &sealed(header, payload)].concat()),
        Some((kind, edits)) => {
            let mut frames = frames.to_vec();
            fuzz::damage(&mut frames, edits);
            if kind % 2 == 0 {
                reseal(header, &mut frames);
            }
            part.read(&[header, &frames].concat());
        }
        None => {}
    }
});

/// A frame of operations.
fn sealed(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER];
    frame[..4].copy_from_slice(b"FRM1");
    frame[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    frame[12] = 1;
    frame[16] = 3;
    frame.extend(payload);
    frame.resize(frame.len().next_multiple_of(8), 0);
    reseal(header, &mut frame);
    frame
}

/// Gives every frame, as far as lengths make sense, the checksum that fits.
fn reseal(header: &[u8], frames: &mut [u8]) {
    let salt = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
    let mut rest = frames;
    while rest.len() >= HEADER {
        let len = u32::from_le_bytes([rest[4], rest[5], rest[6], rest[7]]) as usize;
        let Some((frame, after)) = rest.split_at_mut_checked(HEADER + len.next_multiple_of(8))
        else {
            return;
        };
        let mut end = frame.len();
        if frame.starts_with(b"FRM2") {
            let footer = usize::from(u16::from_le_bytes([frame[14], frame[15]]));
            end -= footer.clamp(8.min(end - HEADER), end - HEADER);
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c_append(salt, &frame[..8]), &frame[12..end]);
        frame[8..12].copy_from_slice(&crc.to_le_bytes());
        if let Some(sum) = frame.len().checked_sub(8).filter(|&sum| sum >= end) {
            let crc = crc32c::crc32c_append(salt, &(frame.len() as u32).to_le_bytes());
            let crc = crc32c::crc32c_append(crc, &frame[end..sum]);
            frame[sum..sum + 4].copy_from_slice(&crc.to_le_bytes());
        }
        rest = after;
    }
}
