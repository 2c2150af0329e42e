//! In a process of its own: the allocator's settings are the whole process's.

/// Memory of this process that is in RAM, MiB.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.expect("a size").parse::<usize>().expect("a number") / 1024
}

fn filled(bytes: usize) -> Vec<u8> {
    vec![1; bytes]
}

#[cfg(target_env = "gnu")]
#[test]
fn what_is_freed_is_given_back() {
    media::give_back_freed_memory();
    // With the first large piece that is freed, glibc by itself begins to keep twice as much.
    drop(filled(31 << 20));
    let before = resident();
    let made = std::thread::spawn(|| (0..550).map(|_| filled(100 << 10)).collect::<Vec<_>>());
    let frames = made.join().expect("made");
    assert!(resident() > before + 50, "{} MiB", resident() - before);
    drop(frames);
    let left = resident().saturating_sub(before);
    assert!(left < 10, "{left} MiB are kept");
}
