//! The allowed arrows between crates, and the files that every checkout has. ARCHITECTURE.md draws the same picture.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Every crate, and the crates of this workspace that its code (not its tests) may name.
const ARROWS: &[(&str, &[&str])] = &[
    (
        "rtsp-recorder",
        &["daemon", "settings", "ticket-queue", "media", "manuals"],
    ),
    (
        "blur-processor",
        &[
            "daemon",
            "settings",
            "ticket-queue",
            "media",
            "plugin-host",
            "redaction",
            "manuals",
        ],
    ),
    (
        "run-system",
        &["daemon", "settings", "ticket-queue", "manuals"],
    ),
    ("settings", &["secrets"]),
    ("daemon", &["secrets"]),
    ("secrets", &[]),
    ("ticket-queue", &[]),
    ("media", &[]),
    ("redaction", &["plugin-abi"]),
    ("plugin-abi", &[]),
    ("plugin-host", &["plugin-abi"]),
    ("head-blur", &["plugin-abi"]),
    ("python-bridge", &["plugin-abi"]),
    ("camera-simulator", &["media", "manuals"]),
    ("manuals", &[]),
    ("system-tests", &[]),
];

pub(crate) fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"))
        .exec()
        .expect("cargo metadata works in the workspace")
}

#[test]
fn crates_name_only_what_they_may() {
    let metadata = metadata();
    let allowed: BTreeMap<&str, BTreeSet<&str>> = ARROWS
        .iter()
        .map(|(name, may)| (*name, may.iter().copied().collect()))
        .collect();
    let members: BTreeSet<&str> = metadata
        .workspace_packages()
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let mut wrong = Vec::new();
    for package in metadata.workspace_packages() {
        let Some(may) = allowed.get(package.name.as_str()) else {
            wrong.push(format!(
                "crate {} is not in the table of arrows",
                package.name
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if members.contains(name)
                && dependency.kind != DependencyKind::Development
                && !may.contains(name)
            {
                wrong.push(format!("{} must not name {name}", package.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(
        members.len(),
        ARROWS.len(),
        "a crate of the table is gone: {members:?}"
    );
}

#[test]
fn one_crate_each_speaks_to_ffmpeg_and_loads_libraries() {
    let metadata = metadata();
    for (dependency, owner) in [
        ("ffmpeg-next", "media"),
        ("libloading", "plugin-host"),
        ("retina", "rtsp-recorder"),
    ] {
        let users: Vec<&str> = metadata
            .workspace_packages()
            .iter()
            .filter(|package| {
                package
                    .dependencies
                    .iter()
                    .any(|d| d.name == dependency && d.kind == DependencyKind::Normal)
            })
            .map(|package| package.name.as_str())
            .collect();
        assert_eq!(users, [owner], "users of {dependency}");
    }
}

#[test]
fn a_crate_lives_in_the_folder_of_its_name() {
    for package in metadata().workspace_packages() {
        let folder = package
            .manifest_path
            .parent()
            .expect("a manifest lies in a folder");
        assert_eq!(folder.file_name(), Some(package.name.as_str()));
    }
}

#[test]
fn nothing_is_taken_from_a_path_outside_or_from_git() {
    let metadata = metadata();
    for package in &metadata.packages {
        match &package.source {
            None => assert!(
                package.manifest_path.starts_with(&metadata.workspace_root),
                "{} comes from outside the workspace",
                package.name
            ),
            Some(source) => assert!(
                source.repr.starts_with("registry+"),
                "{} comes from {}",
                package.name,
                source.repr
            ),
        }
    }
}
