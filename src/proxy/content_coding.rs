//! Owns the decoding of request bodies that clients have compressed, since everything here reads them: bounded like a body
//! that comes plain.
//!
//! Knows nothing of JSON. What is answered is not compressed here.

use crate::openai::Rejection;
use bytes::Bytes;
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use std::io::{Cursor, Read};

/// The most codings that lie one over the other.
const MAX_CODINGS: usize = 3;

/// A body up to so long is decoded where it is; a longer one beside the requests that this thread serves.
const SHORT: usize = 16 << 10;

/// A coding that is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// Undoes the codings of a body, of which it may have `most` bytes.
pub(super) async fn decoded(body: Bytes, headers: &HeaderMap, most: usize) -> Result<Bytes, Rejection> {
    if !headers.contains_key(CONTENT_ENCODING) {
        return Ok(body);
    }
    let codings = codings(headers)?;
    if codings.is_empty() || body.is_empty() {
        return Ok(body);
    }
    if body.len() <= SHORT {
        return decode(body, &codings, most);
    }
    let decoding = tokio::task::spawn_blocking(move || decode(body, &codings, most));
    decoding.await.unwrap_or(Err(Rejection::Internal))
}

/// The codings in the order in which they are undone.
fn codings(headers: &HeaderMap) -> Result<Vec<Coding>, Rejection> {
    let mut codings = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        let value = value.to_str().map_err(|_no_text| Rejection::UnsupportedCoding)?;
        for name in value.split(',').map(str::trim) {
            match name.to_ascii_lowercase().as_str() {
                "" | "identity" => {}
                "gzip" | "x-gzip" => codings.push(Coding::Gzip),
                "deflate" => codings.push(Coding::Deflate),
                "br" => codings.push(Coding::Brotli),
                "zstd" => codings.push(Coding::Zstd),
                _ => return Err(Rejection::UnsupportedCoding),
            }
        }
    }
    if codings.len() > MAX_CODINGS {
        return Err(Rejection::UnsupportedCoding);
    }
    codings.reverse();
    Ok(codings)
}

fn decode(mut body: Bytes, codings: &[Coding], most: usize) -> Result<Bytes, Rejection> {
    for coding in codings {
        let input = Cursor::new(body);
        let mut whole = Vec::new();
        // One more than allowed tells that there is more.
        let limit = most as u64 + 1;
        let read = match coding {
            Coding::Gzip => MultiGzDecoder::new(input).take(limit).read_to_end(&mut whole),
            Coding::Deflate => ZlibDecoder::new(input).take(limit).read_to_end(&mut whole),
            Coding::Brotli => brotli::Decompressor::new(input, 4096).take(limit).read_to_end(&mut whole),
            Coding::Zstd => zstd::stream::read::Decoder::with_buffer(input)
                .and_then(|decoder| decoder.take(limit).read_to_end(&mut whole)),
        };
        read.map_err(|_broken| Rejection::BadCoding)?;
        if whole.len() > most {
            return Err(Rejection::TooLarge { limit: most });
        }
        body = whole.into();
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const TEXT: &[u8] = br#"{"model":"m","messages":[{"role":"user","content":"hi hi hi hi hi hi"}]}"#;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn encoded(coding: &str) -> Vec<u8> {
        match coding {
            "gzip" => gzip(TEXT),
            "deflate" => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(TEXT).unwrap();
                encoder.finish().unwrap()
            }
            "br" => {
                let mut out = Vec::new();
                brotli::CompressorWriter::new(&mut out, 4096, 5, 22).write_all(TEXT).unwrap();
                out
            }
            _ => zstd::encode_all(TEXT, 1).unwrap(),
        }
    }

    async fn decoded_by(body: Vec<u8>, coding: &str, most: usize) -> Result<Bytes, Rejection> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, coding.parse().unwrap());
        decoded(body.into(), &headers, most).await
    }

    #[tokio::test]
    async fn every_coding_is_undone_within_the_limit_of_a_body() {
        for coding in ["gzip", "deflate", "br", "zstd"] {
            let body = encoded(coding);
            assert_eq!(decoded_by(body.clone(), coding, TEXT.len()).await.unwrap(), TEXT, "{coding}");
            let limit = TEXT.len() - 1;
            assert_eq!(decoded_by(body.clone(), coding, limit).await, Err(Rejection::TooLarge { limit }));
            let half = body[..body.len() / 2].to_vec();
            assert_eq!(decoded_by(half, coding, 1000).await, Err(Rejection::BadCoding), "{coding}");
        }
        assert_eq!(decoded_by(gzip(&encoded("br")), "br, GZIP", 1000).await.unwrap(), TEXT);
        assert_eq!(decoded_by(TEXT.to_vec(), "identity", 1).await.unwrap(), TEXT);
        let bomb = gzip(&vec![b' '; 10 << 20]);
        assert_eq!(decoded_by(bomb, "gzip", 1 << 20).await, Err(Rejection::TooLarge { limit: 1 << 20 }));
        for unknown in ["lz4", "gzip, gzip, gzip, gzip"] {
            assert_eq!(decoded_by(TEXT.to_vec(), unknown, 1000).await, Err(Rejection::UnsupportedCoding));
        }
    }
}
