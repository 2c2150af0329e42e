//! From persons and faces to heads.
//!
//! A person's head lies at the top of the body box, a face inside its head. The
//! shares below were measured on hand-labelled CCTV pictures; a box is meant to
//! hold the whole head, not to be drawn tightly.

use crate::boxes::Scored;

/// Head region of a person. A standing body gives a small share of its height;
/// of a body cut off at waist or chest the head is a larger one.
pub(crate) fn head_of_person(person: &Scored) -> Scored {
    let side = (person.width() * 0.55)
        .min(person.height() * 0.5)
        .max(person.height() * 0.17);
    let middle = person.center_x();
    Scored {
        left: middle - side * 0.5,
        right: middle + side * 0.5,
        top: person.top - side * 0.1,
        bottom: person.top + side * 0.9,
        ..*person
    }
}

/// Head around a face: hair above, ears and cheeks beside.
pub(crate) fn head_of_face(face: &Scored) -> Scored {
    let (width, height) = (face.width(), face.height());
    Scored {
        left: face.left - width * 0.25,
        right: face.right + width * 0.25,
        top: face.top - height * 0.35,
        bottom: face.bottom + height * 0.1,
        ..*face
    }
}
