//! How much memory a zstd stream will ask of its decoder, told from the heads of its frames
//! before they reach it (RFC 8878, section 3.1). Blocks are gone past by their lengths.

use std::iter;

const FRAME: u32 = 0xFD2F_B528;
/// The last four bits may be any.
const SKIPPABLE: u32 = 0x184D_2A50;
const LONGEST_HEAD: usize = 18;

/// Follows a stream, wherever it is cut.
pub(super) struct Frames {
    at: At,
    /// What has come of a head that is not whole yet.
    head: Vec<u8>,
    /// Bytes to go past.
    skip: u64,
    has_checksum: bool,
    largest_window: u64,
}

#[derive(Clone, Copy)]
enum At {
    Frame,
    Block,
    /// What is no zstd, the decoder says itself.
    Nonsense,
}

/// What stands in a head.
enum Head {
    /// It is not whole.
    Partial,
    Nonsense,
    Frame {
        window: u64,
        has_checksum: bool,
    },
    Skippable {
        length: u64,
    },
    Block {
        last: bool,
        length: u64,
    },
}

impl Frames {
    pub(super) fn new() -> Self {
        Self {
            at: At::Frame,
            head: Vec::with_capacity(LONGEST_HEAD),
            skip: 0,
            has_checksum: false,
            largest_window: 0,
        }
    }

    /// Takes the next bytes; the largest window so far, in bytes.
    pub(super) fn scan(&mut self, mut bytes: &[u8]) -> u64 {
        loop {
            let passed = self.skip.min(bytes.len() as u64);
            self.skip -= passed;
            bytes = &bytes[passed as usize..];
            let Some((&byte, rest)) = bytes.split_first() else {
                return self.largest_window;
            };
            let read = match self.at {
                At::Frame => read_frame,
                At::Block => read_block,
                At::Nonsense => return self.largest_window,
            };
            bytes = rest;
            self.head.push(byte);
            match read(&self.head) {
                Head::Partial => {}
                head => {
                    self.head.clear();
                    self.enter(&head);
                }
            }
        }
    }

    fn enter(&mut self, head: &Head) {
        match *head {
            Head::Frame {
                window,
                has_checksum,
            } => {
                self.largest_window = self.largest_window.max(window);
                self.has_checksum = has_checksum;
                self.at = At::Block;
            }
            Head::Skippable { length } => self.skip = length,
            Head::Nonsense => self.at = At::Nonsense,
            Head::Partial => {}
            Head::Block { last, length } => {
                self.skip = length;
                if last {
                    self.skip += if self.has_checksum { 4 } else { 0 };
                    self.at = At::Frame;
                }
            }
        }
    }
}

fn read_frame(bytes: &[u8]) -> Head {
    let Some((magic, rest)) = bytes.split_first_chunk() else {
        return Head::Partial;
    };
    let magic = u32::from_le_bytes(*magic);
    if magic & !0xf == SKIPPABLE {
        let length = rest.first_chunk();
        return length.map_or(Head::Partial, |length| Head::Skippable {
            length: u32::from_le_bytes(*length).into(),
        });
    }
    if magic != FRAME {
        return Head::Nonsense;
    }
    let Some((&descriptor, rest)) = rest.split_first() else {
        return Head::Partial;
    };
    let single_segment = descriptor & 0x20 != 0;
    let window_bytes = usize::from(!single_segment);
    let dictionary_bytes = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size_bytes = match descriptor >> 6 {
        0 => usize::from(single_segment),
        power => 1 << power,
    };
    if rest.len() < window_bytes + dictionary_bytes + size_bytes {
        return Head::Partial;
    }
    let window = if single_segment {
        content_size(&rest[dictionary_bytes..])
    } else {
        window(rest[0])
    };
    Head::Frame {
        window,
        has_checksum: descriptor & 4 != 0,
    }
}

/// Without a window of its own, a frame needs all of its content.
fn content_size(bytes: &[u8]) -> u64 {
    let mut padded = [0; 8];
    for (to, from) in iter::zip(&mut padded, bytes) {
        *to = *from;
    }
    // Two bytes begin to count where one ends.
    let offset = if bytes.len() == 2 { 256 } else { 0 };
    u64::from_le_bytes(padded).saturating_add(offset)
}

fn window(descriptor: u8) -> u64 {
    let base = 1_u64 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 7)
}

fn read_block(bytes: &[u8]) -> Head {
    let &[low, middle, high] = bytes else {
        return Head::Partial;
    };
    let head = u32::from_le_bytes([low, middle, high, 0]);
    let length = match head >> 1 & 3 {
        // One byte, over and over.
        1 => 1,
        0 | 2 => u64::from(head >> 3),
        _ => return Head::Nonsense,
    };
    Head::Block {
        last: head & 1 == 1,
        length,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn frame(content: &[u8], window_bits: u32, checksum: bool) -> Vec<u8> {
        let mut packing = zstd::Encoder::new(Vec::new(), 1).unwrap();
        packing.window_log(window_bits).unwrap();
        packing.include_checksum(checksum).unwrap();
        packing.write_all(content).unwrap();
        packing.flush().unwrap();
        packing.finish().unwrap()
    }

    fn scan(bytes: &[u8], cut: usize) -> Vec<u64> {
        let mut frames = Frames::new();
        bytes.chunks(cut).map(|part| frames.scan(part)).collect()
    }

    #[test]
    fn the_largest_window_of_all_frames_wherever_they_are_cut() {
        let noise: Vec<u8> = (0..500_000_u32)
            .map(|n| (n.wrapping_mul(n) >> 7) as u8)
            .collect();
        let mut bytes = frame(b"small", 12, true);
        let first = bytes.len();
        bytes.extend([&SKIPPABLE.to_le_bytes()[..], &3_u32.to_le_bytes(), b"xyz"].concat());
        bytes.extend(frame(&noise, 20, true));
        bytes.extend(frame(&vec![b'\n'; 1 << 20], 23, false));
        bytes.extend(frame(b"", 11, false));
        for cut in [1, 2, 7, 1000, bytes.len()] {
            let windows = scan(&bytes, cut);
            assert_eq!(*windows.last().unwrap(), 1 << 23, "cut every {cut}");
            assert_eq!(windows.len(), bytes.len().div_ceil(cut));
        }
        assert_eq!(scan(&bytes[..first], 1).last(), Some(&(1 << 12)));
    }

    #[test]
    fn a_frame_without_a_window_needs_its_content() {
        for length in [5, 300, 70_000, 300_000] {
            let bytes = zstd::bulk::compress(&vec![b'x'; length], 1).unwrap();
            assert_eq!(scan(&bytes, 3).last(), Some(&(length as u64)));
        }
    }

    #[test]
    fn what_is_no_zstd_is_left_to_the_decoder() {
        assert_eq!(scan(b"{\"a\": 1}\n{\"a\": 2}\n", 4).last(), Some(&0));
    }
}
