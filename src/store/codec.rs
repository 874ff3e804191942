//! How a window's fragments are packed into one column.
//!
//! One byte of version, then a zlib stream (whose checksum finds damage). Inside: the number of kept fragments
//! and each of them, the number of dropped ones and each with its rule. Integers are LEB128; times are zigzag
//! differences to the fragment before; texts are a length and bytes. A fragment costs a few tens of bytes this way,
//! nearly all of it the digits of its number.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use crate::model::{Fragment, FragmentNumber, UtcMillis};

const VERSION: u8 = 1;

/// A column that does not hold a window's fragments.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Written by another version of this program.
    #[error("version {0} of the fragments' format is not known")]
    Version(u8),
    /// The compressed data is cut short or altered.
    #[error("the compressed data is damaged")]
    Damaged(#[source] std::io::Error),
    /// The data decompresses but makes no sense.
    #[error("the content is not a list of fragments: {0}")]
    Invalid(&'static str),
}

/// A fragment that was listed but left out, with the name of the rule that said so.
pub type Dropped = (Fragment, String);

/// Packs kept and dropped fragments.
pub(super) fn encode(kept: &[Fragment], dropped: &[Dropped]) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::with_capacity(64 * (kept.len() + dropped.len()));
    let mut before = (0, 0);
    put_unsigned(&mut plain, kept.len() as u64);
    for fragment in kept {
        put_fragment(&mut plain, fragment, &mut before);
    }
    put_unsigned(&mut plain, dropped.len() as u64);
    for (fragment, rule) in dropped {
        put_fragment(&mut plain, fragment, &mut before);
        put_text(&mut plain, rule);
    }
    let mut encoder = ZlibEncoder::new(vec![VERSION], Compression::default());
    encoder.write_all(&plain)?;
    encoder.finish()
}

/// Unpacks what [`encode`] packed.
pub(super) fn decode(blob: &[u8]) -> Result<(Vec<Fragment>, Vec<Dropped>), CodecError> {
    let Some((&version, compressed)) = blob.split_first() else {
        return Err(CodecError::Invalid("nothing there"));
    };
    if version != VERSION {
        return Err(CodecError::Version(version));
    }
    let mut plain = Vec::new();
    let mut decoder = ZlibDecoder::new(compressed);
    decoder.read_to_end(&mut plain).map_err(CodecError::Damaged)?;
    if decoder.total_in() != compressed.len() as u64 {
        return Err(CodecError::Invalid("bytes after the end"));
    }

    let mut reader = Reader(&plain);
    let mut before = (0, 0);
    let kept = (0..reader.unsigned()?).map(|_| reader.fragment(&mut before)).collect::<Result<_, _>>()?;
    let dropped = (0..reader.unsigned()?)
        .map(|_| Ok((reader.fragment(&mut before)?, reader.text()?.to_owned())))
        .collect::<Result<_, _>>()?;
    if reader.0.is_empty() { Ok((kept, dropped)) } else { Err(CodecError::Invalid("bytes after the list")) }
}

fn put_fragment(out: &mut Vec<u8>, fragment: &Fragment, before: &mut (i64, i64)) {
    put_text(out, fragment.number.as_str());
    put_signed(out, fragment.producer.get().wrapping_sub(before.0));
    put_signed(out, fragment.server.get().wrapping_sub(before.1));
    put_unsigned(out, u64::from(fragment.length_ms));
    put_unsigned(out, fragment.size_bytes);
    *before = (fragment.producer.get(), fragment.server.get());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_unsigned(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_unsigned(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

fn put_unsigned(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            return out.push(low & 0x7f);
        }
        out.push(low | 0x80);
    }
}

/// The rest of the plain bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn unsigned(&mut self) -> Result<u64, CodecError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(CodecError::Invalid("it ends too early"))?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(CodecError::Invalid("a number is too large"))
    }

    fn signed(&mut self) -> Result<i64, CodecError> {
        let value = self.unsigned()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    fn text(&mut self) -> Result<&'a str, CodecError> {
        let length = usize::try_from(self.unsigned()?).unwrap_or(usize::MAX);
        let (text, rest) = self.0.split_at_checked(length).ok_or(CodecError::Invalid("it ends too early"))?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| CodecError::Invalid("a text is not UTF-8"))
    }

    fn fragment(&mut self, before: &mut (i64, i64)) -> Result<Fragment, CodecError> {
        let number = FragmentNumber::parse(self.text()?);
        let number = number.map_err(|_| CodecError::Invalid("a fragment's number is not one"))?;
        before.0 = before.0.wrapping_add(self.signed()?);
        before.1 = before.1.wrapping_add(self.signed()?);
        let length_ms = u32::try_from(self.unsigned()?);
        let length_ms = length_ms.map_err(|_| CodecError::Invalid("a length is too large"))?;
        let size_bytes = self.unsigned()?;
        let (producer, server) = (UtcMillis::new(before.0), UtcMillis::new(before.1));
        Ok(Fragment { number, producer, server, length_ms, size_bytes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_fragment() -> impl Strategy<Value = Fragment> {
        let times = prop_oneof![Just(i64::MIN), Just(i64::MAX), any::<i64>(), 0..2_000_000_000_000_i64];
        ("[1-9][0-9]{46}", times.clone(), times, any::<u32>(), any::<u64>()).prop_map(
            |(number, producer, server, length_ms, size_bytes)| Fragment {
                number: FragmentNumber::parse(&number).expect("47 digits"),
                producer: UtcMillis::new(producer),
                server: UtcMillis::new(server),
                length_ms,
                size_bytes,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back(
            kept in prop::collection::vec(any_fragment(), 0..20),
            dropped in prop::collection::vec((any_fragment(), "[a-zß ]{0,12}"), 0..4),
        ) {
            let blob = encode(&kept, &dropped).expect("in memory");
            prop_assert_eq!(decode(&blob).expect("whole"), (kept, dropped));
        }

        #[test]
        fn a_damaged_blob_is_refused(
            kept in prop::collection::vec(any_fragment(), 1..20),
            at in any::<prop::sample::Index>(),
            flip in 1_u8..,
        ) {
            let mut blob = encode(&kept, &[]).expect("in memory");
            prop_assert!(decode(&blob[..at.index(blob.len())]).is_err(), "cut");
            // Past the version and zlib's two bytes of header, of which some bits are only hints.
            let at = 3 + at.index(blob.len() - 3);
            blob[at] ^= flip;
            prop_assert!(decode(&blob).map_or(true, |(read, _)| read == kept), "altered");
        }
    }

    #[test]
    fn trailing_bytes_and_other_versions_are_refused() {
        let mut blob = encode(&[], &[]).expect("in memory");
        assert!(decode(&blob).is_ok());
        blob.push(0);
        assert!(matches!(decode(&blob), Err(CodecError::Invalid(_))));
        blob[0] = 9;
        assert!(matches!(decode(&blob), Err(CodecError::Version(9))));
        assert!(decode(&[]).is_err());
    }

    #[test]
    fn an_hour_of_fragments_takes_few_bytes_each() {
        let hour: Vec<Fragment> = (0..1800_i64)
            .map(|i| Fragment {
                number: FragmentNumber::parse(&format!(
                    "913438523331814323926820626077439{:014}",
                    i * 90_071_993
                ))
                .expect("47 digits"),
                producer: UtcMillis::new(1_711_065_600_000 + i * 2000),
                server: UtcMillis::new(1_711_065_600_900 + i * 2000 + i % 7),
                length_ms: 2000,
                size_bytes: 500_000 + (i * 7919 % 10_000).cast_unsigned(),
            })
            .collect();
        let blob = encode(&hour, &[]).expect("in memory");
        assert!(blob.len() < 1800 * 30, "{} bytes", blob.len());
    }
}
