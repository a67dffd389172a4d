//! QR codes, as pictures of black and white squares.

use png::{BitDepth, ColorType, Compression, Encoder, Filter};
use qrcode::render::svg;
use qrcode::types::QrError;
use qrcode::{Color, EcLevel, QrCode};

/// Pixels for the side of a square.
const SCALE: usize = 8;
/// Squares of white around it, without which readers do not find it.
const QUIET: usize = 4;

/// A picture that grows without getting coarse.
pub fn svg(content: &str) -> Result<String, QrError> {
    Ok(code(content)?
        .render::<svg::Color>()
        .min_dimensions(256, 256)
        .build())
}

/// A picture for mails, and for whatever else cannot show the other.
pub fn png(content: &str) -> Result<Vec<u8>, QrError> {
    let code = code(content)?;
    let side = (code.width() + 2 * QUIET) * SCALE;
    let lines = (0..side / SCALE).map(|y| row(&code, y, side).collect::<Vec<u8>>());
    let rows: Vec<u8> = lines.flat_map(|line| line.repeat(SCALE)).collect();
    let side = u32::try_from(side).expect("a QR code has at most 177 squares a side");
    let mut picture = Vec::new();
    let mut encoder = Encoder::new(&mut picture, side, side);
    encoder.set_color(ColorType::Grayscale);
    encoder.set_depth(BitDepth::One);
    // What differs from the line above is next to nothing, so the quickest way makes it small as well.
    encoder.set_filter(Filter::Up);
    encoder.set_compression(Compression::Fast);
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(&rows))
        .expect("memory takes everything, and the rows are as many as announced");
    Ok(picture)
}

/// A quarter of it may be dirty or torn.
fn code(content: &str) -> Result<QrCode, QrError> {
    QrCode::with_error_correction_level(content, EcLevel::Q)
}

/// The pixels of a line of squares, eight to the byte, white is 1. A square is as wide as a byte.
fn row(code: &QrCode, y: usize, side: usize) -> impl Iterator<Item = u8> {
    let dark = move |x: usize| {
        let (column, line) = (x.checked_sub(QUIET)?, y.checked_sub(QUIET)?);
        let inside = column < code.width() && line < code.width();
        inside.then(|| code[(column, line)] == Color::Dark)
    };
    (0..side / SCALE).map(move |x| if dark(x) == Some(true) { 0 } else { 0xff })
}

const _: () = assert!(SCALE == 8, "a square is as wide as a byte");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rqrr::PreparedImage;

    use super::*;

    /// What a scanner makes of a picture.
    fn read(picture: &[u8]) -> String {
        let mut reader = png::Decoder::new(std::io::Cursor::new(picture))
            .read_info()
            .expect("a picture");
        let size = reader.output_buffer_size().expect("a small picture");
        let mut rows = vec![0; size];
        let info = reader.next_frame(&mut rows).expect("a picture");
        let (width, line) = (info.width as usize, info.line_size);
        let bright = |x: usize, y: usize| rows[y * line + x / 8] >> (7 - x % 8) & 1 == 1;
        let mut seen =
            PreparedImage::prepare_from_greyscale(
                width,
                width,
                |x, y| {
                    if bright(x, y) { 255 } else { 0 }
                },
            );
        let codes = seen.detect_grids();
        let [code] = &codes[..] else {
            panic!("one code")
        };
        code.decode().expect("a code that can be read").1
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_was_put_in_is_read_again(content in "[0-9A-HJKMNP-TV-Z]{26}|https://[a-z0-9/?=.]{5,80}") {
            prop_assert_eq!(read(&png(&content).expect("a picture")), content);
        }
    }

    #[test]
    fn a_picture_is_small() {
        let picture = png("01ARZ3NDEKTSV4RRFFQ69G5FAV").expect("a picture");
        assert!(picture.len() < 1_200, "{} bytes", picture.len());
    }

    #[test]
    fn too_much_is_refused() {
        assert!(svg(&"x".repeat(8_000)).is_err());
    }
}
