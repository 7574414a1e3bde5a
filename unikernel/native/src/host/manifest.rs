//! `app.json`: what an image says of its application. `unikernel/manifest.py` writes it.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::json::{self, Json, Members, Wrong};

/// What of it the machine goes by.
#[derive(Debug, PartialEq, Eq)]
pub struct Manifest {
    pub app: App,
    /// The slightfile's name, for messages.
    pub slightfile: Option<String>,
    pub grants: Vec<Grant>,
    /// Whether something of what it is granted is reached over the network.
    pub needs_network: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub struct App {
    pub name: String,
}

/// An entry of the slightfile.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    pub resource: String,
    pub family: String,
    pub name: String,
    /// Where the slightfile has it; 0 where there is none.
    pub line: u64,
    pub configs: BTreeMap<String, Config>,
}

/// A value of a grant's configuration.
#[derive(Debug, PartialEq, Eq)]
pub enum Config {
    Value(String),
    /// It is handed over at the start under this name.
    From(String),
}

impl Manifest {
    /// Fails with a line that says what to do.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        let manifest = json::read(json).map_err(|(wrong, _)| wrong).and_then(manifest);
        manifest.map_err(|wrong| format!("the image's app.json can't be read: {wrong}; build the image again"))
    }

    /// Where the slightfile has a grant, as messages begin.
    pub fn place(&self, grant: &Grant) -> String {
        match &self.slightfile {
            Some(name) if grant.line > 0 => format!("{name}:{}: ", grant.line),
            _ => String::new(),
        }
    }

    /// The configuration of each grant with the values that are handed over; or a line for each that is missing.
    pub fn configs(
        &self,
        values: &BTreeMap<String, String>,
    ) -> Result<Vec<BTreeMap<String, String>>, Vec<String>> {
        let mut missing = Vec::new();
        let mut all = Vec::new();
        for grant in &self.grants {
            let mut found = BTreeMap::new();
            for (key, config) in &grant.configs {
                let value = match config {
                    Config::Value(value) => Some(value),
                    Config::From(source) => values.get(source).or_else(|| {
                        missing.push(format!(
                            "{}{}: the value of {key} is handed over at the start, and '{source}' is not; set it",
                            self.place(grant),
                            grant.resource
                        ));
                        None
                    }),
                };
                if let Some(value) = value {
                    found.insert(key.clone(), value.clone());
                }
            }
            all.push(found);
        }
        if missing.is_empty() { Ok(all) } else { Err(missing) }
    }
}

fn manifest(value: Json) -> Result<Manifest, Wrong> {
    let mut members = value.object()?;
    let mut app = members.take("app")?.object()?;
    Ok(Manifest {
        app: App { name: app.take("name")?.text()? },
        slightfile: members.optional("slightfile", Json::text)?,
        grants: members.take("grants")?.list()?.into_iter().map(grant).collect::<Result<_, _>>()?,
        needs_network: members.take("needs_network")?.flag()?,
    })
}

fn grant(value: Json) -> Result<Grant, Wrong> {
    let mut members = value.object()?;
    let configs = members.take("configs")?.object()?.into_iter();
    Ok(Grant {
        resource: members.take("resource")?.text()?,
        family: members.take("family")?.text()?,
        name: members.take("name")?.text()?,
        line: members.take("line")?.whole(u64::MAX)?,
        configs: configs.map(|(key, value)| Ok((key, config(value.object()?)?))).collect::<Result<_, _>>()?,
    })
}

fn config(members: Members) -> Result<Config, Wrong> {
    let (kind, value) = members.only()?;
    match kind.as_str() {
        "value" => value.text().map(Config::Value),
        "from" => value.text().map(Config::From),
        _ => Err(Wrong("a configuration has neither a value nor where that is from")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{
        "flavour": "native", "slight_py": "1.0", "python": null, "wasmtime": "50.0.1", "cpu": "portable",
        "app": {"name": "app.wasm", "sha256": "00", "size": 8, "entry": "_start", "serves": false},
        "slightfile": "slightfile.toml", "specversion": "0.2",
        "grants": [{
            "resource": "keyvalue.redis", "family": "keyvalue", "name": "store", "line": 3,
            "configs": {"REDIS_ADDRESS": {"from": "ADDRESS"}, "OTHER": {"value": "here"}}, "allow": null
        }],
        "packages": {}, "needs_network": true
    }"#;

    #[test]
    fn values_that_are_handed_over_complete_the_configuration() {
        let manifest = Manifest::read(JSON.as_bytes()).unwrap();
        let values = [("ADDRESS".into(), "redis://db".into())].into();
        let configs = manifest.configs(&values).unwrap();
        let wanted = [("OTHER".into(), "here".into()), ("REDIS_ADDRESS".into(), "redis://db".into())];
        assert_eq!(configs, [BTreeMap::from(wanted)]);
    }

    #[test]
    fn a_value_that_is_missing_is_named_with_its_place() {
        let manifest = Manifest::read(JSON.as_bytes()).unwrap();
        let line = "slightfile.toml:3: keyvalue.redis: the value of REDIS_ADDRESS is handed over at the start, and \
                    'ADDRESS' is not; set it";
        assert_eq!(manifest.configs(&BTreeMap::new()), Err([String::from(line)].into()));
    }

    #[test]
    fn what_is_no_manifest_is_refused_in_one_line() {
        for json in ["", "[]", "{}", &JSON.replace("\"value\"", "\"other\""), &JSON.replace("_start\"", "")] {
            let line = Manifest::read(json.as_bytes()).unwrap_err();
            assert!(line.starts_with("the image's app.json can't be read: ") && !line.contains('\n'), "{line}");
        }
    }
}
