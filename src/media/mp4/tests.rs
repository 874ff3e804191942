use std::io::Cursor;

use super::*;

fn boxed(kind: [u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let size = u32::try_from(body.len() + 8).expect("small");
    [&size.to_be_bytes()[..], &kind, &body].concat()
}

/// A full box of version 0 without flags, made of words.
fn full(kind: [u8; 4], words: &[u32]) -> Vec<u8> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    boxed(kind, &[&[0; 4], &bytes])
}

/// A video track of four samples in two chunks, with reordering and an edit list.
struct Clip {
    durations: Vec<u32>,
    offsets: Vec<u32>,
    layout: Vec<u32>,
    sizes: Vec<u32>,
    chunks: Vec<u32>,
    syncs: Vec<u32>,
    edits: Vec<u32>,
}

impl Clip {
    /// Payloads of 1, 2, 3 and 4 bytes; shown in the order 1, 3, 2, 4; 250 ms apart.
    fn good() -> Self {
        Self {
            durations: vec![1, 4, 250],
            offsets: vec![3, 1, 250, 1, 500, 2, 125],
            layout: vec![2, 1, 3, 1, 2, 1, 1],
            sizes: vec![0, 4, 1, 2, 3, 4],
            chunks: vec![2, 8, 14],
            syncs: vec![1, 1],
            // Wait 100 ms by the movie's clock of 10 Hz, then show from tick 250.
            edits: vec![2, 1, u32::MAX, 1 << 16, 9, 250, 1 << 16],
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let entry = {
            let mut head = [0; 78];
            head[7] = 1;
            head[24..28].copy_from_slice(&[1, 64, 0, 180]);
            boxed(*b"avc1", &[&head, &boxed(*b"avcC", &[&[1, 66, 0, 30, 0xff, 0xe0, 0]])])
        };
        let stbl = boxed(
            *b"stbl",
            &[
                &boxed(*b"stsd", &[&[0, 0, 0, 0, 0, 0, 0, 1], &entry]),
                &full(*b"stts", &self.durations),
                &full(*b"ctts", &self.offsets),
                &full(*b"stsc", &self.layout),
                &full(*b"stsz", &self.sizes),
                &full(*b"stco", &self.chunks),
                &full(*b"stss", &self.syncs),
            ],
        );
        let hdlr = [&[0; 8][..], b"vide", &[0; 13]].concat();
        let mdia = boxed(
            *b"mdia",
            &[
                &full(*b"mdhd", &[0, 0, 1_000, 0, 0x55c4_0000]),
                &boxed(*b"hdlr", &[&hdlr]),
                &boxed(*b"minf", &[&stbl]),
            ],
        );
        let mut tkhd = vec![0; 20];
        tkhd[2] = 7;
        let edts = boxed(*b"edts", &[&full(*b"elst", &self.edits)]);
        let trak = boxed(*b"trak", &[&full(*b"tkhd", &tkhd), &edts, &mdia]);
        let mut mvhd = vec![0; 24];
        mvhd[2] = 10;
        let moov = boxed(*b"moov", &[&full(*b"mvhd", &mvhd), &trak]);
        [boxed(*b"mdat", &[b"abbcccdddd"]), moov].concat()
    }

    fn samples(&self) -> Result<Vec<Sample>, Mp4Error> {
        samples(&self.bytes())
    }
}

fn samples(bytes: &[u8]) -> Result<Vec<Sample>, Mp4Error> {
    let mut mp4 = Mp4::open(Cursor::new(bytes))?;
    let mut cursor = mp4.samples(0);
    std::iter::from_fn(|| mp4.next(&mut cursor).transpose()).collect()
}

#[test]
fn tables_and_edit_list_give_place_time_and_key_frame_of_every_sample() {
    let bytes = Clip::good().bytes();
    let mut mp4 = Mp4::open(Cursor::new(&bytes)).expect("opened");
    let track = &mp4.tracks()[0];
    assert_eq!((track.id, track.time_scale), (7, 1_000));
    assert_eq!((track.description.width, track.description.height), (320, 180));
    assert_eq!(track.description.codec_private, [1, 66, 0, 30, 0xff, 0xe0, 0]);
    let mut cursor = mp4.samples(0);
    let mut found = Vec::new();
    while let Some(sample) = mp4.next(&mut cursor).expect("sample") {
        let mut payload = Vec::new();
        mp4.payload::<Mp4Error>(&sample, &mut [0; 2], |piece| {
            payload.extend(piece);
            Ok(())
        })
        .expect("payload");
        let text = String::from_utf8(payload).expect("text");
        found.push((text, sample.dts / 1_000_000, sample.pts / 1_000_000, sample.is_sync));
    }
    let expected = [
        ("a", -150, 100, true),
        ("bb", 100, 600, false),
        ("ccc", 350, 475, false),
        ("dddd", 600, 725, false),
    ];
    assert_eq!(found, expected.map(|(text, dts, pts, key)| (text.to_owned(), dts, pts, key)));
}

type BreakIt = fn(&mut Clip);

#[test]
fn tables_that_disagree_are_told() {
    let broken: [(&str, BreakIt); 11] = [
        ("too few durations", |clip| clip.durations = vec![1, 3, 250]),
        ("too many durations", |clip| clip.durations = vec![1, 5, 250]),
        ("too few offsets", |clip| clip.offsets = vec![1, 3, 0]),
        ("too many offsets", |clip| clip.offsets = vec![1, 5, 0]),
        ("too few chunks", |clip| clip.chunks = vec![1, 8]),
        ("too many chunks", |clip| clip.chunks = vec![3, 8, 14, 14]),
        ("a chunk without samples", |clip| clip.layout = vec![1, 1, 0, 1]),
        ("no first chunk", |clip| clip.layout = vec![1, 2, 4, 1]),
        ("another description", |clip| clip.layout = vec![1, 1, 4, 2]),
        ("a key frame too many", |clip| clip.syncs = vec![2, 1, 5]),
        ("key frames out of order", |clip| clip.syncs = vec![2, 3, 1]),
    ];
    for (what, break_it) in broken {
        let mut clip = Clip::good();
        break_it(&mut clip);
        let result = clip.samples();
        assert!(matches!(result, Err(Mp4Error::TablesDisagree { track: 7, .. })), "{what}: {result:?}");
    }
}

#[test]
fn absurd_numbers_are_refused_before_anything_is_allocated() {
    let mut clip = Clip::good();
    clip.sizes = vec![0, u32::MAX, 1];
    assert!(matches!(clip.samples(), Err(Mp4Error::Damaged { .. })));
    clip.sizes = vec![1, u32::MAX];
    clip.layout = vec![1, 1, u32::MAX, 1];
    clip.durations = vec![1, u32::MAX, 1];
    clip.offsets = vec![1, u32::MAX, 0];
    clip.chunks = vec![1, 0];
    assert!(matches!(clip.samples(), Err(Mp4Error::SampleOutside { .. } | Mp4Error::Absurd(_))));
    let mut clip = Clip::good();
    clip.chunks = vec![2, 8, u32::MAX];
    assert!(matches!(clip.samples(), Err(Mp4Error::SampleOutside { track: 7, sample: 3 })));
}

#[test]
fn edit_lists_that_cut_inside_or_change_speed_are_refused() {
    let mut clip = Clip::good();
    clip.edits = vec![2, 4, 0, 1 << 16, 4, 500, 1 << 16];
    assert!(matches!(clip.samples(), Err(Mp4Error::Unsupported(_))));
    clip.edits = vec![1, 9, 0, 2 << 16];
    assert!(matches!(clip.samples(), Err(Mp4Error::Unsupported(_))));
}

#[test]
fn a_file_cut_anywhere_is_told() {
    let bytes = Clip::good().bytes();
    for length in 0..bytes.len() {
        assert!(samples(&bytes[..length]).is_err(), "cut at {length}");
    }
    assert_eq!(samples(&bytes).expect("whole").len(), 4);
}

#[test]
fn time_converts_to_the_nearest_nanosecond_without_adding_up() {
    let clock = TrackClock { scale: 90_000, skipped_ticks: 0, delay_nanos: 0 };
    assert_eq!(clock.nanos(1).expect("in range"), 11_111);
    assert_eq!(clock.nanos(2).expect("in range"), 22_222);
    assert_eq!(clock.nanos(90_000 * 86_400 * 365).expect("in range"), 31_536_000_000_000_000);
    assert!(clock.nanos(i128::from(i64::MAX)).is_err());
}
