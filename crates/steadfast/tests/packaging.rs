//! What a package of steadfast takes from it: completions and manual pages.

use std::fs;
use std::process::{Command, Output};

fn steadfast(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_steadfast")).args(arguments).output().expect("it is built")
}

#[test]
fn bash_completes_verbs() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("steadfast.bash");
    fs::write(&file, steadfast(&["completions", "bash"]).stdout).expect("it is ours");
    let script = "source \"$1\"; COMP_WORDS=(steadfast re) COMP_CWORD=1; _steadfast steadfast re steadfast; \
                  echo \"${COMPREPLY[@]}\"";
    let bash = Command::new("bash").args(["-c", script, "bash"]).arg(&file).output().expect("bash is there");
    assert_eq!(String::from_utf8_lossy(&bash.stdout), "reload restart\n", "{bash:?}");
    for shell in ["zsh", "fish"] {
        let said = steadfast(&["completions", shell]);
        assert!(said.status.success() && String::from_utf8_lossy(&said.stdout).contains("quarantine"), "{shell}");
    }
}

#[test]
fn each_verb_has_a_page_of_the_manual() {
    let directory = tempfile::tempdir().expect("a directory");
    let said = steadfast(&["man", directory.path().to_str().expect("text")]);
    assert!(said.status.success(), "{said:?}");
    let page = |name: &str| fs::read_to_string(directory.path().join(name)).expect(name);
    assert!(page("steadfast.1").contains(".TH steadfast 1"));
    assert!(page("steadfast-reload.1").contains("rolled back"));
    assert!(!directory.path().join("steadfast-front.1").exists(), "it is nobody's to type");
    let nowhere = steadfast(&["man", "/nowhere"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("/nowhere"), "{nowhere:?}");
}
