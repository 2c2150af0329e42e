//! From persons and faces to heads.
//!
//! The shares below were fitted to 289 pairs of person box and hand-labelled
//! head (CCTV and street pictures, networks at 512 to 960 pixels), to give a box
//! about the whole head. The host masks the ellipse around that box, half as
//! wide again, which takes up the scatter.

use crate::boxes::Scored;
use crate::detector::FOUND;

/// Head height as a share of body height, by the body's width over its height:
/// a standing body is slim, one cut off at waist or chest is wide.
const HEAD_SHARE: [(f32, f32); 9] = [
    (0.25, 0.16),
    (0.31, 0.15),
    (0.37, 0.155),
    (0.44, 0.19),
    (0.54, 0.28),
    (0.67, 0.41),
    (0.82, 0.43),
    (1.05, 0.42),
    (1.5, 0.55),
];
/// Room around the fitted head height.
const ROOM: f32 = 1.15;
/// Width of a head over its height.
const HEAD_ASPECT: f32 = 0.85;
/// No head is taken narrower than this share of its body: it may be anywhere
/// across the shoulders.
const LEAST_WIDTH: f32 = 0.5;

/// So near the lower border, as a share of the picture's height, a body is cut off by it.
const BORDER: f32 = 0.015;
/// Widths over heights of boxes that may hold no more than a head seen from above, with some of the shoulders.
const ALL_HEAD: std::ops::Range<f32> = 0.85..LYING;
/// Its share of such a box.
const SEEN_FROM_ABOVE: f32 = 0.8;

/// Somebody so much wider than tall lies or is badly cut off: the head may be
/// anywhere in the box.
const LYING: f32 = 1.8;

/// A face replaces the head guessed from a body only from this score on: on the
/// back of a head the face network sees weak faces beside it.
const SURE_FACE: f32 = 0.4;
/// How far from the guessed head, in heads, its face may be.
const FACE_REACH: f32 = 0.8;
/// How much smaller or larger than the guessed head a face's head may be.
const FACE_RATIO: std::ops::Range<f32> = 0.4..2.0;

/// A face whose head would be no wider than this share of its height is seen from the side, and the head is so wide. From
/// there it falls as fast as the face grows wider, until they meet: labelled faces have 0.60 to 0.71, profiles 0.43 to 0.71.
/// Without it the back of a head stayed outside the mask in 6 of 12 labelled profiles, by up to a third of its width.
const PROFILE: (f32, f32) = (0.55, 0.75);

/// A head known from its face and one guessed of the body that overlap by less (intersection over union) may be two
/// people's: where the face is beside the body, or fits another one better.
const SAME_HEAD: f32 = 0.03;
/// A box that holds so much of another person's is about both.
const ABOUT_BOTH: f32 = 0.7;

/// So much higher than a face's head, in heads, the body's box may begin and still be about a hat, not a raised hand.
const HAT: f32 = 0.6;

/// All heads: one per person, placed by the face where one is clearly seen, and
/// one per face of whom no body was found. Where the face may be a
/// neighbour's the head that the body suggests is kept as well. `height` is the picture's, in pixels.
pub(crate) fn join(persons: &[Scored], faces: &[Scored], height: f32) -> Vec<Scored> {
    let mut heads: Vec<Scored> = persons.iter().map(head_of_person).collect();
    let about_faces: Vec<Scored> = faces.iter().map(head_of_face).collect();
    let mut pairs = Vec::new();
    for (p, (guess, person)) in heads.iter().zip(persons).enumerate() {
        for (f, head) in about_faces.iter().enumerate() {
            if faces[f].score >= SURE_FACE
                && let Some(cost) = mismatch(guess, person, head)
            {
                pairs.push((person.score < FOUND, cost, p, f));
            }
        }
    }
    // A weak box about two people may fit a face better than the box of him whose face it is.
    pairs.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut person_taken = vec![false; persons.len()];
    let mut face_taken = vec![false; faces.len()];
    let mut beside = Vec::new();
    for &(_, cost, p, f) in &pairs {
        if !person_taken[p] && !face_taken[f] {
            (person_taken[p], face_taken[f]) = (true, true);
            let own = &persons[p];
            // Not a box about both of them, which says nothing.
            let fits_another = |&(_, less, other, face): &(bool, f32, usize, usize)| {
                face == f && less < cost && persons[other].overlap(own) < ABOUT_BOTH * own.area()
            };
            let is_beside = !(own.left..own.right).contains(&about_faces[f].center_x());
            if heads[p].iou(&about_faces[f]) < SAME_HEAD
                && (is_beside || pairs.iter().any(fits_another))
            {
                beside.push(heads[p]);
            }
            heads[p] = Scored {
                score: persons[p].score.max(faces[f].score),
                top: with_hat(&about_faces[f], &persons[p]),
                ..about_faces[f]
            };
        }
    }
    for (p, person) in persons.iter().enumerate() {
        if !person_taken[p] {
            heads[p] = at_border(heads[p], person, height);
        }
    }
    let alone = about_faces.iter().zip(&face_taken);
    heads.extend(alone.filter(|(_, taken)| !**taken).map(|(head, _)| *head));
    heads.extend(beside);
    heads
}

/// Top of a head known from its face, with the hat that the body's box holds: a face under a brim, or one that looks
/// down, is seen lower than it is.
fn with_hat(head: &Scored, person: &Scored) -> f32 {
    let above = head.top - person.top;
    let below = (head.left..head.right).contains(&person.center_x());
    if below && (0.0..HAT * head.height()).contains(&above) {
        person.top
    } else {
        head.top
    }
}

/// How badly `head`, known from a face, fits the one guessed of `person`;
/// `None` if it cannot be the same.
fn mismatch(guess: &Scored, person: &Scored, head: &Scored) -> Option<f32> {
    let across = person.width().max(guess.height());
    let x = (guess.center_x() - head.center_x()) / across;
    let y = (guess.center_y() - head.center_y()) / guess.height();
    let distance = x.hypot(y);
    let ratio = head.height() / guess.height();
    (distance < FACE_REACH && FACE_RATIO.contains(&ratio))
        .then(|| distance + 0.5 * ratio.ln().abs())
}

/// The head of somebody of whom the body is seen.
pub(crate) fn head_of_person(person: &Scored) -> Scored {
    let (width, height) = (person.width(), person.height());
    if width > LYING * height {
        return *person;
    }
    let fitted = head_share(width / height) * height;
    let tall = fitted * ROOM;
    let half = (tall * HEAD_ASPECT).max(width * LEAST_WIDTH) / 2.0;
    // The fitted head begins at the top of the body box; room goes both ways.
    let top = person.top - (tall - fitted) / 2.0 - 0.03 * fitted;
    Scored {
        left: person.center_x() - half,
        right: person.center_x() + half,
        top,
        bottom: top + tall,
        ..*person
    }
}

/// Of somebody without a clear face, cut off by the lower border, whose box is as wide as a head or as shoulders, not more may be seen than the
/// head: from above it is nearly all of the box.
fn at_border(head: Scored, person: &Scored, height: f32) -> Scored {
    let aspect = person.width() / person.height();
    let cut = person.bottom > height * (1.0 - BORDER);
    if cut && ALL_HEAD.contains(&aspect) {
        let bottom = person.top + SEEN_FROM_ABOVE * person.height();
        return Scored {
            bottom: head.bottom.max(bottom),
            ..head
        };
    }
    head
}

fn head_share(aspect: f32) -> f32 {
    let (first, last) = (HEAD_SHARE[0], HEAD_SHARE[HEAD_SHARE.len() - 1]);
    if aspect <= first.0 {
        return first.1;
    }
    HEAD_SHARE
        .windows(2)
        .find(|pair| aspect < pair[1].0)
        .map_or(last.1, |pair| {
            let part = (aspect - pair[0].0) / (pair[1].0 - pair[0].0);
            pair[0].1 + part * (pair[1].1 - pair[0].1)
        })
}

/// Head around a face (brow to chin): hair and a hat above, ears and cheeks beside; of a profile, the back of the head on
/// either side.
fn head_of_face(face: &Scored) -> Scored {
    let half_height = face.height() * 1.6 / 2.0;
    let aspect = face.width() * 1.35 / (face.height() * 1.6);
    let half_width = half_height * aspect.max(PROFILE.1 - (aspect - PROFILE.0).max(0.0));
    let middle = face.center_y() - 0.17 * face.height();
    Scored {
        left: face.center_x() - half_width,
        right: face.center_x() + half_width,
        top: middle - half_height,
        bottom: middle + half_height,
        ..*face
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture with nobody at its lower border.
    const TALL: f32 = 1e6;

    fn scored(x: f32, y: f32, width: f32, height: f32, score: f32) -> Scored {
        Scored {
            left: x,
            top: y,
            right: x + width,
            bottom: y + height,
            score,
            class: 0,
        }
    }

    #[test]
    fn shares_are_interpolated() {
        assert_eq!(head_share(0.1), 0.16);
        assert!((head_share(0.605) - 0.345).abs() < 1e-3);
        assert_eq!(head_share(9.0), 0.55);
    }

    #[test]
    fn a_head_that_comes_in_from_below_is_nearly_all_of_its_box() {
        let head = |width: f32, height: f32| {
            join(&[scored(100.0, 400.0, width, 100.0, 0.8)], &[], height)[0].bottom
        };
        assert_eq!(head(120.0, 500.0), 480.0);
        // Nothing cuts it off, or so much of the body is seen that the head is on top.
        assert!(head(120.0, 600.0) < 460.0 && head(60.0, 500.0) < 460.0);
    }

    #[test]
    fn a_standing_body_has_its_head_on_top() {
        let heads = join(&[scored(100.0, 50.0, 60.0, 180.0, 0.8)], &[], TALL);
        let [head] = heads[..] else {
            panic!("{heads:?}")
        };
        assert!(head.top < 50.0 && head.bottom > 70.0 && head.bottom < 90.0);
        assert!((head.center_x() - 130.0).abs() < 1e-3);
    }

    #[test]
    fn of_somebody_lying_everything_may_be_the_head() {
        let person = scored(100.0, 50.0, 200.0, 60.0, 0.8);
        assert_eq!(join(&[person], &[], TALL), [person]);
    }

    #[test]
    fn a_sure_face_places_the_head() {
        let person = scored(100.0, 50.0, 60.0, 180.0, 0.6);
        let face = scored(135.0, 55.0, 18.0, 22.0, 0.9);
        let heads = join(&[person], &[face], TALL);
        let [head] = heads[..] else {
            panic!("{heads:?}")
        };
        assert!((head.center_x() - 144.0).abs() < 1e-3);
        assert_eq!(head.score, 0.9);
    }

    #[test]
    fn a_weak_face_never_moves_a_head() {
        let person = scored(100.0, 50.0, 60.0, 180.0, 0.6);
        let face = scored(135.0, 55.0, 18.0, 22.0, 0.3);
        assert_eq!(join(&[person], &[face], TALL).len(), 2);
    }

    #[test]
    fn of_a_profile_the_back_of_the_head_is_hidden_too() {
        let aspect = |width: f32| {
            let head = head_of_face(&scored(100.0, 100.0, width, 100.0, 0.9));
            head.width() / head.height()
        };
        assert!((aspect(50.0) - 0.75).abs() < 1e-3, "from the side");
        assert!((aspect(80.0) - 0.675).abs() < 1e-3, "from the front");
        let steps = (40..100).map(|width| aspect(width as f32));
        let steps: Vec<f32> = steps.collect();
        assert!(
            steps
                .windows(2)
                .all(|pair| (pair[0] - pair[1]).abs() < 0.01)
        );
    }

    #[test]
    fn a_hat_is_part_of_the_head() {
        let top = |person_top: f32, person_left: f32| {
            let person = scored(person_left, person_top, 80.0, 200.0 - person_top, 0.8);
            let face = scored(130.0, 60.0, 20.0, 25.0, 0.9);
            let [head] = join(&[person], &[face], TALL)[..] else {
                panic!("one head");
            };
            head.top
        };
        let bare = top(55.0, 100.0);
        assert_eq!(top(40.0, 100.0), 40.0, "a helmet");
        assert_eq!(top(22.0, 100.0), bare, "a raised hand");
        assert_eq!(top(40.0, 78.0), bare, "the head of somebody beside");
    }

    #[test]
    fn the_face_belongs_to_who_is_clearly_seen() {
        // Close together, and a weak box about both.
        let (own, both) = (
            scored(100.0, 50.0, 60.0, 180.0, 0.8),
            scored(95.0, 52.0, 86.0, 180.0, 0.2),
        );
        let face = scored(129.0, 58.0, 18.0, 22.0, 0.9);
        let heads = join(&[both, own], &[face], TALL);
        let scores: Vec<f32> = heads.iter().map(|head| head.score).collect();
        assert_eq!(scores, [0.2, 0.9], "{heads:?}");
    }

    #[test]
    fn a_neighbours_face_takes_nobodys_head_away() {
        // Clearly seen from behind; beside him a face, with hardly a body or none.
        let back = scored(100.0, 50.0, 60.0, 180.0, 0.8);
        let beside = scored(140.0, 50.0, 60.0, 180.0, 0.2);
        let face = scored(161.0, 58.0, 18.0, 22.0, 0.9);
        for persons in [&[back, beside][..], &[back]] {
            let heads = join(persons, &[face], TALL);
            for place in [
                scored(117.0, 50.0, 26.0, 25.0, 0.0),
                scored(161.0, 58.0, 18.0, 22.0, 0.0),
            ] {
                let covers = |head: &&Scored| head.overlap(&place) > 0.95 * place.area();
                let head = heads.iter().find(covers);
                assert!(head.is_some_and(|head| head.score >= FOUND), "{heads:?}");
            }
        }
    }

    #[test]
    fn one_face_serves_one_person() {
        let persons = [
            scored(100.0, 50.0, 60.0, 180.0, 0.6),
            scored(110.0, 50.0, 60.0, 180.0, 0.6),
        ];
        let face = scored(132.0, 55.0, 18.0, 22.0, 0.9);
        let heads = join(&persons, &[face], TALL);
        assert_eq!(heads.len(), 2);
        assert!(heads.iter().any(|head| head.score == 0.6), "{heads:?}");
    }
}
