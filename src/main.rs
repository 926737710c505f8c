//! The `kademlua` program; see [`kademlua::cli`].

fn main() -> std::process::ExitCode {
    kademlua::cli::main()
}
