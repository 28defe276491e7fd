//! Subtitle sources that ffmpeg cannot make from nothing: a text, and pictures in Blu-ray's format.

/// A SubRip text whose second and third lines span likely cuts.
pub fn srt() -> Vec<u8> {
    "1\n00:00:01,000 --> 00:00:03,000\nHello <i>world</i>\n\n\
     2\n00:00:03,500 --> 00:00:07,250\nCrosses a boundary äöü €\nand has two lines\n\n\
     3\n00:00:08,040 --> 00:00:11,500\n{braces} & ampersands\n\n"
        .as_bytes()
        .to_vec()
}

/// A `.sup` file: two pictures, each shown for two seconds.
///
/// ffmpeg has no encoder for this format, and makes the DVD and DVB kinds only from pictures.
pub fn sup() -> Vec<u8> {
    let mut out = Vec::new();
    for (number, start_s) in [(0_u16, 1_u32), (1, 5)] {
        show(&mut out, number * 2, start_s * 90_000);
        hide(&mut out, number * 2 + 1, (start_s + 2) * 90_000);
    }
    out
}

const CANVAS: (u16, u16) = (320, 180);
const PICTURE: (u16, u16) = (64, 16);
const AT: (u16, u16) = (128, 150);

fn show(out: &mut Vec<u8>, number: u16, pts: u32) {
    let mut composition = composition(number, 0x80);
    composition.push(1);
    // Object 0 in window 0, not cropped.
    composition.extend([0, 0, 0, 0]);
    composition.extend([AT.0.to_be_bytes(), AT.1.to_be_bytes()].concat());
    segment(out, pts, 0x16, &composition);
    segment(out, pts, 0x17, &window());
    // Palette 0: entry 1 is opaque white.
    segment(out, pts, 0x14, &[0, 0, 1, 235, 128, 128, 255]);
    segment(out, pts, 0x15, &object());
    segment(out, pts, 0x80, &[]);
}

fn hide(out: &mut Vec<u8>, number: u16, pts: u32) {
    let mut composition = composition(number, 0);
    composition.push(0);
    segment(out, pts, 0x16, &composition);
    segment(out, pts, 0x17, &window());
    segment(out, pts, 0x80, &[]);
}

fn composition(number: u16, state: u8) -> Vec<u8> {
    let mut body = [CANVAS.0.to_be_bytes(), CANVAS.1.to_be_bytes()].concat();
    body.push(0x10);
    body.extend(number.to_be_bytes());
    body.extend([state, 0, 0]);
    body
}

fn window() -> Vec<u8> {
    let mut body = vec![1, 0];
    for value in [AT.0, AT.1, PICTURE.0, PICTURE.1] {
        body.extend(value.to_be_bytes());
    }
    body
}

/// Object 0: lines of one long run of colour 1, every other line shorter, so it has a shape.
fn object() -> Vec<u8> {
    let mut runs = Vec::new();
    for line in 0..PICTURE.1 {
        let filled: u8 = if line % 2 == 0 { 63 } else { 40 };
        // 00 10LLLLLL CC: L pixels of colour C; then 00 0LLLLLLL: L pixels of colour 0.
        runs.extend([0, 0x80 | filled, 1]);
        runs.extend([0, 64 - filled]);
        runs.extend([0, 0]);
    }
    let mut body = vec![0, 0, 0, 0xc0];
    let length = u32::try_from(runs.len() + 4).unwrap();
    body.extend(&length.to_be_bytes()[1..]);
    body.extend([PICTURE.0.to_be_bytes(), PICTURE.1.to_be_bytes()].concat());
    body.extend(runs);
    body
}

fn segment(out: &mut Vec<u8>, pts: u32, kind: u8, body: &[u8]) {
    out.extend(b"PG");
    out.extend(pts.to_be_bytes());
    out.extend(0_u32.to_be_bytes());
    out.push(kind);
    out.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    out.extend(body);
}
