//! The caption is there, complete, and the same in every layout.

use proptest::prelude::*;
use redaction::{Overlay, OverlayLine, Subsampling};

use crate::picture::{Layout, Picture};

const I420: Layout = Layout::Planar(Subsampling::YUV420);

fn caption(frame: u64) -> OverlayLine {
    OverlayLine {
        text: "Lager 2, \u{cc3d}\u{ace0}".to_owned(),
        time: "2026-05-04 13:37:00.123 +09:00".to_owned(),
        frame,
        frames: 450,
    }
}

fn drawn(width: u32, height: u32, layout: Layout, frames: &[u64]) -> Picture {
    let mut overlay = Overlay::new((width as usize, height as usize), &caption(450));
    let mut last = Picture::noisy(width, height, layout, 0);
    for &frame in frames {
        last = Picture::noisy(width, height, layout, 0);
        overlay.draw(&mut last.planes(), &caption(frame));
    }
    last
}

/// White pixels as `#`, rows and columns where every pixel has `scale` twins thinned out.
fn text(
    picture: &Picture,
    scale: usize,
    columns: std::ops::Range<u32>,
    rows: std::ops::Range<u32>,
) -> String {
    let line = |y| {
        columns
            .clone()
            .step_by(scale)
            .map(move |x| if picture.luma(x, y) == 235 { '#' } else { '.' })
    };
    rows.step_by(scale)
        .map(|y| line(y).collect::<String>().trim_end_matches('.').to_owned() + "\n")
        .collect()
}

#[test]
fn letters_and_hangul_are_drawn_at_the_pictures_scale() {
    let picture = drawn(1920, 1080, I420, &[1]);
    // "La" and the first Hangul letter of the first line, at twice the size.
    let letters = text(&picture, 2, 16..48, 20..50);
    let rows = [
        ".#",
        ".#",
        ".#........####",
        ".#.......#....#",
        ".#............#",
        ".#........#####",
    ];
    expect_rows(&letters, &rows);
    let hangul = text(&picture, 2, 16 + 9 * 16..16 + 11 * 16, 16..48);
    assert!(hangul.matches('#').count() > 25, "{hangul}");
}

fn expect_rows(drawn: &str, wanted: &[&str]) {
    let rows: Vec<&str> = drawn
        .lines()
        .map(|row| row.trim_end_matches('.'))
        .filter(|row| !row.is_empty())
        .collect();
    assert_eq!(&rows[..wanted.len()], wanted, "{drawn}");
}

#[test]
fn letters_kept_from_earlier_frames_do_not_show() {
    for layout in [I420, Layout::Nv12] {
        assert_eq!(
            drawn(640, 480, layout, &[399, 8, 450, 77]),
            drawn(640, 480, layout, &[77])
        );
    }
}

#[test]
fn outside_the_box_nothing_changes_and_layouts_agree() {
    let (planar, pairs) = (
        drawn(1280, 721, I420, &[5]),
        drawn(1280, 721, Layout::Nv12, &[5]),
    );
    let before = Picture::noisy(1280, 721, I420, 0);
    let mut changed = 0;
    for (x, y) in (0..721).flat_map(|y| (0..1280).map(move |x| (x, y))) {
        assert_eq!(
            (planar.luma(x, y), planar.chroma(x, y)),
            (pairs.luma(x, y), pairs.chroma(x, y))
        );
        if x > 300 || y > 80 {
            assert_eq!(
                (planar.luma(x, y), planar.chroma(x, y)),
                (before.luma(x, y), before.chroma(x, y))
            );
        }
        changed += u32::from(planar.luma(x, y) != before.luma(x, y));
    }
    assert!(changed > 10_000, "{changed}");
}

proptest! {
    #[test]
    fn no_size_or_text_makes_it_panic(
        (width, height) in (1u32..400, 1u32..300),
        texts in prop::collection::vec("\\PC{0,40}", 1..4),
        (frame, frames) in any::<(u64, u64)>(),
        nv12 in any::<bool>(),
    ) {
        let layout = if nv12 { Layout::Nv12 } else { Layout::Planar(Subsampling { x: 2, y: 0 }) };
        let line = |text: &str| OverlayLine { text: text.to_owned(), time: texts[0].clone(), frame, frames };
        let mut overlay = Overlay::new((width as usize, height as usize), &line(&texts[0]));
        for text in &texts {
            overlay.draw(&mut Picture::noisy(width, height, layout, 3).planes(), &line(text));
            overlay.draw(&mut Picture::noisy(width.div_ceil(2), height * 2, layout, 3).planes(), &line(text));
        }
    }
}
