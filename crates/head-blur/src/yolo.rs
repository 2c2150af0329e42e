//! A user's own YOLO model, as the exporters of that family write them to ONNX, any
//! input size; `layout` tells how what it answers is read.

use plugin_abi::{Failure, FrameView, RegionKind};

use crate::boxes::{Scored, suppress};
use crate::config::ClassName;
use crate::engine::{ModelFile, Network};
use crate::labels;
use crate::layout::{Known, Layout};
use crate::picture::{Feeder, Letterbox, Normal};

const OVERLAP_LIMIT: f32 = 0.5;
const STEP: u32 = 32;
/// Words in class names that tell what is seen.
const WORDS: [(&str, RegionKind); 7] = [
    ("head", RegionKind::Head),
    ("helmet", RegionKind::Head),
    ("face", RegionKind::Face),
    ("person", RegionKind::Person),
    ("people", RegionKind::Person),
    ("pedestrian", RegionKind::Person),
    ("human", RegionKind::Person),
];

/// RGB, 0..1, grey around, as Ultralytics trains.
const NORMAL: Normal = Normal {
    order: [2, 1, 0],
    mean: [0.0; 3],
    factor: [1.0 / 255.0; 3],
    padding: 114,
};

/// A user's model.
pub(crate) struct Yolo {
    network: Network,
    labels: Vec<String>,
    /// Class numbers to report.
    wanted: Vec<usize>,
    /// The settings name classes.
    chosen: bool,
    known: Known,
    input: (u32, u32),
    /// Set by `compile`.
    layout: Option<Layout>,
}

impl Yolo {
    /// `size` is the input for models that take any; `objectness` what the settings say of it.
    pub(crate) fn new(
        network: Network,
        classes: &[ClassName],
        size: (u32, u32),
        objectness: Option<bool>,
    ) -> Result<Self, Failure> {
        let bytes = network.file().bytes()?;
        let name = &network.file().name;
        if labels::task_of_model(&bytes).is_some_and(|task| task == "obb") {
            return Err(format!(
                "model {name}: it finds turned boxes (task obb), which are not supported; train one for upright boxes (task detect)"
            )
            .into());
        }
        let labels = labels::of_model(&bytes);
        let wanted = choose(classes, &labels).map_err(|error| format!("model {name}: {error}"))?;
        let whole = (size.0.next_multiple_of(STEP), size.1.next_multiple_of(STEP));
        let input = network.fixed_size()?.unwrap_or(whole);
        let known = Known {
            names: labels.len(),
            objectness,
        };
        Ok(Self {
            network,
            labels,
            wanted,
            chosen: !classes.is_empty(),
            known,
            input,
            layout: None,
        })
    }

    /// Compiles the network and checks what it answers.
    pub(crate) fn compile(&mut self) -> Result<(), Failure> {
        let (known, input, chosen) = (self.known, self.input, self.chosen);
        let session = self.network.session(input.0, input.1)?;
        session.run(|input| input.fill(0.0))?;
        let wanted = &self.wanted;
        let layout = session.output(0, |shape, values| {
            let layout = Layout::of(shape, input, known)?;
            fits(wanted, chosen, known.names, layout.classes())?;
            layout.check(values, input, wanted)?;
            Ok(layout)
        });
        self.layout = Some(layout.map_err(|error| self.explain(&error))?);
        Ok(())
    }

    fn explain(&self, error: &Failure) -> Failure {
        format!("model {}: {error}", self.network.file().name).into()
    }

    /// How its output is read, for a person.
    pub(crate) fn layout(&self) -> Option<String> {
        self.layout.as_ref().map(Layout::describe)
    }

    /// Classes that are looked for, and those that are not: names, or numbers where there are none.
    pub(crate) fn classes(&self) -> (Vec<String>, Vec<String>) {
        let count = self.labels.len();
        if count == 0 {
            let numbers = self.wanted.iter().map(ToString::to_string);
            return (numbers.collect(), Vec::new());
        }
        let (used, ignored): (Vec<usize>, Vec<usize>) =
            (0..count).partition(|class| self.wanted.contains(class));
        let names = |classes: Vec<usize>| {
            let names = classes.into_iter().map(|class| self.labels[class].clone());
            names.collect()
        };
        (names(used), names(ignored))
    }

    pub(crate) fn file(&self) -> &ModelFile {
        self.network.file()
    }

    pub(crate) fn input_size(&self) -> (u32, u32) {
        self.input
    }

    /// What a class shows, by its name; without a name, a head.
    pub(crate) fn kind_of(&self, class: usize) -> RegionKind {
        self.labels.get(class).map_or(RegionKind::Head, |name| {
            kind_of_name(name).unwrap_or(RegionKind::Other)
        })
    }

    /// Finds the wanted classes in `frame`; boxes in its pixels.
    pub(crate) fn find(
        &mut self,
        feeder: &mut Feeder,
        frame: &FrameView<'_>,
        floor: f32,
    ) -> Result<Vec<Scored>, Failure> {
        let size = (frame.info().width, frame.info().height);
        let fit = Letterbox::into_fixed(size, self.input);
        let session = self.network.session(self.input.0, self.input.1)?;
        session.run(|input| feeder.fill(frame, &fit, &NORMAL, input))?;
        let (wanted, known, input) = (&self.wanted, self.known, self.input);
        let found = session.output(0, |shape, values| {
            // Of finished boxes there may be more or fewer than before.
            let layout = Layout::of(shape, input, known)?;
            layout.decode(values, floor, |class| wanted.contains(&class))
        });
        let found = found.map_err(|error| self.explain(&error))?;
        Ok(suppress(found, OVERLAP_LIMIT)
            .into_iter()
            .map(|found| found.unscaled(fit.scale))
            .collect())
    }
}

fn kind_of_name(name: &str) -> Option<RegionKind> {
    let name = name.to_lowercase();
    let known = WORDS.iter().find(|(word, _)| name.contains(word));
    known.map(|(_, kind)| *kind)
}

/// Numbers of the wanted classes. Without a wish: all that name a head, face or
/// person; of a model without names: its only class.
fn choose(classes: &[ClassName], labels: &[String]) -> Result<Vec<usize>, String> {
    let known = || format!("it has {}", labels.join(", "));
    if classes.is_empty() {
        if labels.is_empty() {
            return Ok(vec![0]);
        }
        let fitting: Vec<usize> = (0..labels.len())
            .filter(|&class| kind_of_name(&labels[class]).is_some())
            .collect();
        if fitting.is_empty() {
            return Err(format!(
                "no class is named after a head, face or person; name some in plugin.classes ({})",
                known()
            ));
        }
        return Ok(fitting);
    }
    let mut chosen = Vec::new();
    for class in classes {
        match class {
            ClassName::Number(number) if labels.is_empty() || *number < labels.len() => {
                chosen.push(*number);
            }
            ClassName::Number(number) => return Err(format!("no class {number}; {}", known())),
            ClassName::Name(name) if labels.is_empty() => {
                return Err(format!(
                    "class \"{name}\" is not known: the file carries no names; use its number"
                ));
            }
            ClassName::Name(name) => {
                let before = chosen.len();
                let same = |label: &String| label.to_lowercase() == name.to_lowercase();
                chosen.extend((0..labels.len()).filter(|&class| same(&labels[class])));
                if chosen.len() == before {
                    return Err(format!("no class \"{name}\"; {}", known()));
                }
            }
        }
    }
    Ok(chosen)
}

/// Whether the wanted classes can be among the `classes` of the output (`None` = unknown). `chosen`: the settings name
/// them; `names`: how many the file names.
fn fits(
    wanted: &[usize],
    chosen: bool,
    names: usize,
    classes: Option<usize>,
) -> Result<(), String> {
    if !chosen && names == 0 && classes != Some(1) {
        let which = classes.map_or("its classes".to_owned(), |n| format!("its {n} classes"));
        return Err(format!(
            "the file does not name {which}; say by number in plugin.classes which are to be hidden"
        ));
    }
    let Some(classes) = classes else {
        return Ok(());
    };
    match wanted.iter().find(|&&class| class >= classes) {
        Some(class) => Err(format!(
            "no class {class}: its output tells {classes} apart, numbered from 0"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_chosen_by_name_or_number() {
        let labels = ["car", "Head", "person"].map(str::to_owned);
        let name = |name: &str| ClassName::Name(name.to_owned());
        assert_eq!(choose(&[], &labels), Ok(vec![1, 2]));
        assert_eq!(
            choose(&[name("head"), ClassName::Number(0)], &labels),
            Ok(vec![1, 0])
        );
        assert_eq!(choose(&[], &[]), Ok(vec![0]));
        let refused = choose(&[name("dog")], &labels).unwrap_err();
        assert!(refused.contains("car, Head, person"), "{refused}");
        assert!(choose(&[ClassName::Number(7)], &labels).is_err());
        assert!(choose(&[name("head")], &[]).unwrap_err().contains("number"));
        assert!(
            choose(&[], &labels[..1])
                .unwrap_err()
                .contains("plugin.classes")
        );
    }

    #[test]
    fn all_classes_of_a_name_are_meant() {
        let labels = ["Head", "car", "head", "머리", "HEAD"].map(str::to_owned);
        let name = |name: &str| ClassName::Name(name.to_owned());
        assert_eq!(choose(&[name("head")], &labels), Ok(vec![0, 2, 4]));
        assert_eq!(choose(&[name("머리")], &labels), Ok(vec![3]));
    }

    #[test]
    fn classes_that_nobody_names_are_not_guessed() {
        assert_eq!(fits(&[0], false, 0, Some(1)), Ok(()));
        for classes in [Some(2), None] {
            let refused = fits(&[0], false, 0, classes).expect_err("no names");
            assert!(refused.contains("plugin.classes"), "{refused}");
            assert_eq!(fits(&[0], true, 0, classes), Ok(()));
            assert_eq!(fits(&[0], false, 2, classes), Ok(()));
        }
        let refused = fits(&[0, 1], true, 0, Some(1)).expect_err("beyond");
        assert!(refused.contains("no class 1"), "{refused}");
    }
}
