//! The settings files, as people write them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use settings::{BlurSettings, Environment, RecorderSettings};

fuzz_target!(|text: &str| {
    let environment = Environment::empty();
    for problems in [
        RecorderSettings::from_text(text, &environment).err(),
        BlurSettings::from_text(text, &environment).err(),
    ]
    .into_iter()
    .flatten()
    {
        assert!(
            !problems.to_string().is_empty(),
            "what is refused is explained"
        );
    }
});
