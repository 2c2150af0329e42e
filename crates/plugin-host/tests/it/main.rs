//! Loads real shared libraries: the examples, and plugins that misbehave.

mod build;
mod examples;
mod misbehaving;
