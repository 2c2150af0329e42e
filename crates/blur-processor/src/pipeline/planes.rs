//! Pictures seen by others: as planes for `redaction`, as views for plugins.

use media::{Frame, PixelFormat};
use plugin_host::abi;
use redaction::{Chroma, Plane, Subsampling, YuvPlanes};

use super::job::Failure;

/// The format in which pictures of a decoded format are worked on: as they are where `redaction`
/// can, else the nearest one that loses nothing of the colour's resolution.
pub(crate) fn work_format(decoded: PixelFormat) -> PixelFormat {
    let eight = decoded.eight_bit();
    let as_it_is = [
        PixelFormat::I420,
        PixelFormat::I422,
        PixelFormat::I444,
        PixelFormat::NV12,
        PixelFormat::GRAY8,
    ];
    match eight {
        format if as_it_is.contains(&format) => format,
        format if format.is_rgb() => PixelFormat::I444,
        format => match format.chroma_shift() {
            (0, 0) => PixelFormat::I444,
            (1, 0) => PixelFormat::I422,
            _ => PixelFormat::I420,
        },
    }
}

/// Runs `change` on the planes of a picture in its work format.
pub(crate) fn with_planes<T>(
    frame: &mut Frame,
    change: impl FnOnce(&mut YuvPlanes<'_>) -> T,
) -> Result<T, Failure> {
    let size = (frame.width() as usize, frame.height() as usize);
    let format = frame.format();
    let (x, y) = format.chroma_shift();
    let mut planes = frame
        .planes_mut()
        .map_err(Failure::of_output)?
        .into_iter()
        .map(|plane| Plane {
            data: plane.data,
            stride: plane.stride,
        });
    let luma = planes.next();
    let chroma = match (planes.next(), planes.next()) {
        (Some(u), Some(v)) => Chroma::Planar { u, v },
        (Some(uv), None) => Chroma::Interleaved(uv),
        (None, _) => Chroma::None,
    };
    let luma = luma.ok_or_else(|| Failure::attempt("a picture without planes"))?;
    let subsampling = match chroma {
        Chroma::None => Subsampling::YUV444,
        _ => Subsampling {
            x: x as u8,
            y: y as u8,
        },
    };
    let mut planes = YuvPlanes::new(size, subsampling, luma, chroma)
        .map_err(|error| Failure::attempt(format!("{error} ({format:?})")))?;
    Ok(change(&mut planes))
}

/// The format of `media` for one of the plugin interface.
pub(crate) fn for_plugin(format: abi::PixelFormat) -> PixelFormat {
    match format {
        abi::PixelFormat::I420 => PixelFormat::I420,
        abi::PixelFormat::Nv12 => PixelFormat::NV12,
        abi::PixelFormat::Bgr24 => PixelFormat::BGR24,
    }
}

/// The plugin interface's name of a format, if it has one.
pub(crate) fn named_for_plugin(format: PixelFormat) -> Option<abi::PixelFormat> {
    match format {
        PixelFormat::I420 => Some(abi::PixelFormat::I420),
        PixelFormat::NV12 => Some(abi::PixelFormat::Nv12),
        PixelFormat::BGR24 => Some(abi::PixelFormat::Bgr24),
        _ => None,
    }
}

/// Lends a picture to a detector.
pub(crate) fn lend<T>(
    frame: &Frame,
    info: abi::FrameInfo,
    call: impl FnOnce(&abi::FrameView<'_>) -> T,
) -> Result<T, Failure> {
    let planes = frame.planes();
    let lent: Vec<(&[u8], usize)> = planes
        .iter()
        .map(|plane| (plane.data, plane.stride))
        .collect();
    let view =
        abi::FrameView::new(info, &lent).map_err(|error| Failure::attempt(error.to_string()))?;
    Ok(call(&view))
}

/// Lends a picture to a frame filter, to change.
pub(crate) fn lend_mut<T>(
    frame: &mut Frame,
    info: abi::FrameInfo,
    call: impl FnOnce(&mut abi::FrameViewMut<'_>) -> T,
) -> Result<T, Failure> {
    let planes = frame.planes_mut().map_err(Failure::of_output)?;
    let lent = planes
        .into_iter()
        .map(|plane| (plane.data, plane.stride))
        .collect();
    let mut view =
        abi::FrameViewMut::new(info, lent).map_err(|error| Failure::attempt(error.to_string()))?;
    Ok(call(&mut view))
}
