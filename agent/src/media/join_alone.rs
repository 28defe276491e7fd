//! Sound alone with its names, covers and chapters, in Ogg, M4A and MP3 files.

use std::path::Path;

use base64::Engine as _;
use dmc_protocol::media::{Container, TaskSpec};

use super::args_single::exact_length;
use super::error::MediaError;
use super::join::CoverFile;
use super::plan::{Origin, OutStream, Plan};
use super::run::Args;
use super::streams::StreamKind;
use super::work::TaskOutput;

/// Larger covers are no covers.
const COVER_BYTES_MAX: u64 = 16 << 20;
/// What a picture is in FLAC's list of kinds: the front of a cover.
const FRONT: u32 = 3;

/// The arguments that join the encoded sound with what is kept of its source. Its times stay as they
/// are: they say how much of the first and last packet is sound.
pub(super) async fn arguments(
    plan: &Plan,
    source: &Path,
    results: &[TaskOutput],
    covers: &[CoverFile],
    (desk, out): (&Path, &Path),
) -> Result<Args, MediaError> {
    let [result] = results else {
        return Err(MediaError::wrong("the results", "there is not one of them"));
    };
    let mut args = Args::ffmpeg();
    args.input(None, &result.media).input(Some(&plan.source_format), source);
    let texts = cover_texts(covers, desk).await?;
    if let Some(texts) = &texts {
        args.words("-protocol_whitelist file -format_whitelist ffmetadata -f ffmetadata -i");
        args.read(texts);
    }
    args.words("-map 0:a:0");
    let copied = plan.join.streams.iter().filter(|stream| stream.origin == Origin::Copy);
    let pictures: Vec<&OutStream> =
        copied.filter(|stream| stream.kind == StreamKind::Cover).collect();
    for picture in &pictures {
        args.words(&format!("-map 1:{}", picture.source));
    }
    args.words("-c copy -map_metadata 1 -map_chapters 1");
    let sound = plan.join.streams.iter().find(|stream| stream.kind == StreamKind::Audio);
    for (key, value) in sound.iter().flat_map(|sound| &sound.tags) {
        // Ogg files keep the names of a piece with its sound; most others with the file.
        match key.as_str() {
            "handler_name" => {}
            "language" => _ = args.arg("-metadata:s:a:0").arg(format!("{key}={value}")),
            _ => _ = args.arg("-metadata").arg(format!("{key}={value}")),
        }
    }
    // What wrote the source did not write this.
    args.words("-metadata encoder=");
    if texts.is_some() {
        args.words("-map_metadata:s:a:0 2:g");
    }
    for (number, picture) in pictures.iter().enumerate() {
        args.words(&format!("-disposition:v:{number} attached_pic"));
        for (key, value) in picture.tags.iter().filter(|(key, _)| key != "handler_name") {
            args.arg(format!("-metadata:s:v:{number}")).arg(format!("{key}={value}"));
        }
    }
    if let (Container::M4a, Some(TaskSpec::Sound(task))) = (plan.join.container, plan.tasks.first())
    {
        exact_length(&mut args, task);
    }
    args.words(match plan.join.container {
        Container::Opus => "-f opus",
        Container::Mp3 => "-id3v2_version 3 -f mp3",
        _ => "-movflags +faststart -f ipod",
    });
    args.output(out);
    Ok(args)
}

/// Ogg keeps covers as texts: too long for arguments, so they are in a file.
async fn cover_texts(
    covers: &[CoverFile],
    desk: &Path,
) -> Result<Option<std::path::PathBuf>, MediaError> {
    // A file of texts holds one of each name.
    let Some(cover) = covers.first() else { return Ok(None) };
    let io = |error| MediaError::io("read", &cover.file, error);
    if tokio::fs::metadata(&cover.file).await.map_err(io)?.len() > COVER_BYTES_MAX {
        return Err(MediaError::wrong("the cover", "it has more than 16 MiB"));
    }
    let picture = tokio::fs::read(&cover.file).await.map_err(io)?;
    let block = picture_block(&cover.mime, &picture);
    let text = base64::engine::general_purpose::STANDARD.encode(block).replace('=', "\\=");
    let list = format!(";FFMETADATA1\nMETADATA_BLOCK_PICTURE={text}\n");
    let path = desk.join("cover.ffmetadata");
    tokio::fs::write(&path, list).await.map_err(|e| MediaError::io("write", &path, e))?;
    Ok(Some(path))
}

/// FLAC's picture block: kind, type, description, size that is not told, data.
fn picture_block(mime: &str, picture: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(0).to_be_bytes();
    let mut block = FRONT.to_be_bytes().to_vec();
    block.extend(length(mime.as_bytes()));
    block.extend_from_slice(mime.as_bytes());
    block.extend([0; 4 + 4 * 4]);
    block.extend(length(picture));
    block.extend_from_slice(picture);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cover_becomes_a_block() {
        let block = picture_block("image/png", b"pixels");
        assert_eq!(&block[..8], [0, 0, 0, 3, 0, 0, 0, 9]);
        assert_eq!(&block[block.len() - 10..], b"\0\0\0\x06pixels");
    }
}
