//! `blur-processor`: see the library.

fn main() -> std::process::ExitCode {
    blur_processor::cli::main()
}
