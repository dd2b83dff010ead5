//! ClickHouse's own compressed blocks (`compress=1`, `decompress=1`): a checksum, a header, LZ4 data.

use bytes::{Buf, Bytes, BytesMut};

use crate::exception::{Exception, code};

const CHECKSUM: usize = 16;
const HEADER: usize = 9;
/// How much plain data goes into one block; what a server's own buffers hold.
const BLOCK: usize = 1 << 20;
/// ClickHouse's limit for either size of a block.
const LARGEST: usize = 1 << 30;

const LZ4: u8 = 0x82;

/// Packs data into LZ4 blocks.
pub(super) fn encode(data: &[u8]) -> Bytes {
    let mut packed = Vec::with_capacity(data.len() / 2 + CHECKSUM + HEADER);
    for piece in data.chunks(BLOCK) {
        encode_block(piece, &mut packed);
    }
    packed.into()
}

fn encode_block(piece: &[u8], packed: &mut Vec<u8>) {
    let compressed = lz4_flex::block::compress(piece);
    let mut block = Vec::with_capacity(HEADER + compressed.len());
    block.push(LZ4);
    block.extend_from_slice(&((HEADER + compressed.len()) as u32).to_le_bytes());
    block.extend_from_slice(&(piece.len() as u32).to_le_bytes());
    block.extend_from_slice(&compressed);
    packed.extend_from_slice(&checksum(&block));
    packed.extend_from_slice(&block);
}

fn checksum(block: &[u8]) -> [u8; CHECKSUM] {
    cityhash_rs::cityhash_102_128(block)
        .rotate_right(64)
        .to_le_bytes()
}

/// Unpacks blocks from a stream cut at any place.
#[derive(Default)]
pub(super) struct Decoder {
    pending: BytesMut,
}

impl Decoder {
    /// Takes some bytes and returns what the blocks completed by them hold.
    pub(super) fn push(&mut self, data: &[u8]) -> Result<Vec<u8>, Exception> {
        self.pending.extend_from_slice(data);
        let mut plain = Vec::new();
        while let Some(block) = self.next_block()? {
            unpack(&block, &mut plain)?;
        }
        Ok(plain)
    }

    /// Checks that the stream may end here.
    pub(super) fn finish(&self) -> Result<(), Exception> {
        if self.pending.is_empty() {
            return Ok(());
        }
        Err(broken("the last block is cut".to_owned()))
    }

    fn next_block(&mut self) -> Result<Option<BytesMut>, Exception> {
        if self.pending.len() < CHECKSUM + HEADER {
            return Ok(None);
        }
        let size = length_at(&self.pending, CHECKSUM + 1);
        if !(HEADER..=LARGEST).contains(&size) {
            return Err(broken(format!("a compressed block of {size} bytes")));
        }
        if self.pending.len() < CHECKSUM + size {
            return Ok(None);
        }
        let expected = self.pending.split_to(CHECKSUM);
        let block = self.pending.split_to(size);
        if checksum(&block) != expected[..] {
            return Err(Exception::new(
                code::CHECKSUM_DOESNT_MATCH,
                "Checksum doesn't match: corrupted data in the request body.",
            ));
        }
        Ok(Some(block))
    }
}

fn length_at(data: &[u8], at: usize) -> usize {
    data.get(at..at + 4)
        .map_or(0, |mut bytes| bytes.get_u32_le() as usize)
}

fn unpack(block: &[u8], plain: &mut Vec<u8>) -> Result<(), Exception> {
    let size = length_at(block, 5);
    if size > LARGEST {
        return Err(broken(format!("a block of {size} bytes")));
    }
    if block[0] != LZ4 {
        return Err(broken(format!("method {:#04x}", block[0])));
    }
    let start = plain.len();
    plain.resize(start + size, 0);
    let written = lz4_flex::block::decompress_into(&block[HEADER..], &mut plain[start..])
        .map_err(|error| broken(error.to_string()))?;
    if written == size {
        return Ok(());
    }
    Err(broken(format!(
        "{written} bytes where {size} were announced"
    )))
}

fn broken(what: String) -> Exception {
    Exception::new(
        code::CANNOT_DECOMPRESS,
        format!("Cannot decompress the request body: {what}."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_survive_any_cut() {
        let data: Vec<u8> = (0..3 * BLOCK).map(|index| (index % 251) as u8).collect();
        let packed = encode(&data);
        for size in [1, 7, 25, 4096, packed.len()] {
            let mut decoder = Decoder::default();
            let mut plain = Vec::new();
            // Single bytes of all of it would take long; the head shows the same.
            let part = if size == 1 {
                &packed[..5000]
            } else {
                &packed[..]
            };
            for piece in part.chunks(size) {
                plain.extend(decoder.push(piece).unwrap());
            }
            if size > 1 {
                assert!(decoder.finish().is_ok());
                assert_eq!(plain, data);
            }
        }
    }

    #[test]
    fn damage_is_noticed() {
        let mut packed = encode(b"some data, some data, some data").to_vec();
        let last = packed.len() - 1;
        packed[last] ^= 1;
        assert_eq!(Decoder::default().push(&packed).unwrap_err().code, 40);

        let mut absurd = vec![0; CHECKSUM + HEADER];
        absurd[CHECKSUM + 1..CHECKSUM + 5].fill(0xFF);
        assert_eq!(
            Decoder::default().push(&absurd).unwrap_err().code,
            code::CANNOT_DECOMPRESS
        );
    }
}
