//! ClickHouse's own compressed blocks (`compress=1`, `decompress=1`): a checksum, a header, LZ4 or ZSTD data.

use bytes::{Buf, Bytes, BytesMut};

use crate::exception::{Exception, code};

const CHECKSUM: usize = 16;
const HEADER: usize = 9;
/// How much plain data goes into one block; what a server's own buffers hold.
const BLOCK: usize = 1 << 20;
/// ClickHouse's limit for either size of a block.
const LARGEST: usize = 1 << 30;

const NONE: u8 = 0x02;
const LZ4: u8 = 0x82;
const ZSTD: u8 = 0x90;

/// Packs data into LZ4 blocks.
pub(crate) fn encode(data: &[u8]) -> Bytes {
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
pub(crate) struct Decoder {
    pending: BytesMut,
}

impl Decoder {
    /// Takes some bytes and returns what the blocks completed by them hold.
    pub(crate) fn push(&mut self, data: &[u8]) -> Result<Vec<u8>, Exception> {
        self.pending.extend_from_slice(data);
        let mut plain = Vec::new();
        while let Some(block) = self.next_block()? {
            unpack(&block, &mut plain)?;
        }
        Ok(plain)
    }

    /// Whether the stream may end here.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
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
            return Err(Exception {
                code: 40,
                name: "CHECKSUM_DOESNT_MATCH".to_owned(),
                message: "Checksum doesn't match: corrupted data in the request body.".to_owned(),
            });
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
    let data = &block[HEADER..];
    let start = plain.len();
    plain.resize(start + size, 0);
    let target = &mut plain[start..];
    let written = match block[0] {
        LZ4 => lz4_flex::block::decompress_into(data, target)
            .map_err(|error| broken(error.to_string()))?,
        ZSTD => zstd::bulk::decompress_to_buffer(data, target)
            .map_err(|error| broken(error.to_string()))?,
        NONE if data.len() == size => {
            target.copy_from_slice(data);
            size
        }
        method => return Err(broken(format!("method {method:#04x}"))),
    };
    if written == size {
        Ok(())
    } else {
        Err(broken(format!(
            "{written} bytes where {size} were announced"
        )))
    }
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
                assert!(decoder.is_empty());
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
