//! Says what video files are and whether they decode without any error: `inspect FILE...`.

use std::error::Error;

use media::verify::VerifyOptions;

fn main() -> Result<(), Box<dyn Error>> {
    for path in std::env::args().skip(1) {
        let found = media::verify(&path, &VerifyOptions::default())?;
        let track = &found.track;
        println!(
            "{path}: {} {}x{} {:?}, time base {}, {} packets, {} frames, {} audio packets, {}",
            track.codec.name(),
            track.width,
            track.height,
            track.pixel_format,
            track.time_base,
            found.packets,
            found.frames.len(),
            found.audio_packets,
            if found.is_sound() {
                "sound"
            } else {
                "NOT SOUND"
            },
        );
        for error in &found.errors {
            println!("  {error}");
        }
    }
    Ok(())
}
