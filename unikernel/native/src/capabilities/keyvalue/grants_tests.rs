use super::*;
use crate::capabilities::keyvalue::memory::MemoryStores;
use crate::host::executor::block_on;

fn granted(slightfile: Option<&str>, names: &[&str]) -> (Granted, Vec<MemoryStores>) {
    let stores: Vec<MemoryStores> = names.iter().map(|_| MemoryStores::new(1 << 20)).collect();
    let grant = |(number, name): (usize, &&str)| Grant {
        name: name.to_string(),
        resource: "keyvalue.redis".into(),
        line: 4 * number as u64 + 3,
        backend: Arc::new(stores[number].clone()),
    };
    let grants = names.iter().enumerate().map(grant).collect();
    (Granted { slightfile: slightfile.map(String::from), grants }, stores)
}

fn refusal(granted: &Granted, name: &str) -> StoreError {
    granted.backend(name).err().unwrap_or_else(|| panic!("{name} is granted"))
}

fn set(granted: &Granted, name: &str) {
    block_on(granted.backend(name).unwrap().open(name).unwrap().set("key".into(), b"value".to_vec())).unwrap();
}

#[test]
fn a_granted_name_opens_its_own_backend() {
    let (granted, stores) = granted(None, &["one", "other"]);
    set(&granted, "one");
    assert!(stores[0].used_bytes() > 0);
    assert_eq!(stores[1].used_bytes(), 0);
}

#[test]
fn a_star_grants_every_name_that_has_no_grant_of_its_own() {
    let (granted, stores) = granted(None, &["*", "cats"]);
    for name in ["", "*", "dogs"] {
        set(&granted, name);
    }
    assert_eq!(stores[1].used_bytes(), 0);
    set(&granted, "cats");
    assert!(stores[1].used_bytes() > 0);
}

#[test]
fn a_star_is_no_pattern_inside_a_name() {
    refusal(&granted(None, &["cats*"]).0, "cats2");
}

#[test]
fn a_refusal_says_what_is_granted_and_whoever_runs_it_is_told_where() {
    let error = refusal(&granted(Some("app/slightfile.toml"), &["cats", "dogs"]).0, "mi\"ce");
    assert_eq!(error.kind, Kind::Unexpected);
    assert_eq!(error.text, "no store 'mi\"ce' is granted; granted: 'cats', 'dogs'");
    assert_eq!(
        error.notice.unwrap(),
        "app/slightfile.toml: keyvalue: the module asked for the store 'mi\"ce', which the slightfile does not grant (it \
         grants 'cats' in line 3, 'dogs' in line 7); add [[capability]] with resource = \"keyvalue.redis\" and name = \
         \"mi\\\"ce\" and [capability.configs] as in line 3"
    );
    assert_eq!(refusal(&granted(None, &[]).0, "mice").text, "no store 'mice' is granted; granted: none");
}

#[test]
fn a_hostile_name_is_shown_on_one_short_line() {
    let error = refusal(&granted(Some("s.toml"), &["cats"]).0, &("a\nb\x1b[31m".to_string() + &"x".repeat(1_000_000)));
    assert!(error.text.len() < 200 && !error.text.contains('\n') && !error.text.contains('\x1b'), "{}", error.text);
    assert!(error.notice.unwrap().len() < 400);
}

#[test]
fn a_name_is_written_as_a_slightfile_has_it() {
    assert_eq!(toml("a\"\\\n\u{1f980}\u{e0001}é", 100), "\"a\\\"\\\\\\u000A🦀\\U000E0001é\"");
}
