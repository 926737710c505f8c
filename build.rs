//! Decides once where there is a fast path in the kernel, so that the code asks one word: Linux,
//! little-endian as the object in `bpf/` is, and the feature `xdp`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(fast_path)");
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    let asked_for = std::env::var_os("CARGO_FEATURE_XDP").is_some();
    if asked_for && target("OS") == "linux" && target("ENDIAN") == "little" {
        println!("cargo::rustc-cfg=fast_path");
    }
}
