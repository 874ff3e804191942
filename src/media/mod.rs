//! Samples: reads them out of MP4 files, writes them as Matroska, maps them to planned fragments.
//!
//! Pure and streaming over any `Read + Seek` or `Write`: memory does not grow with the media, no count in a file
//! is trusted before the file is seen to hold that much, and all times are integers. Knows no files and no
//! processes.

pub mod clip;
pub mod matroska;
pub mod mp4;
pub mod track;

pub use track::{Codec, SampleDescription, TrackKind};
