//! The query of a request. A parameter that is not known, or given twice, is refused.

use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::call::Parameter;
use crate::problem::Problem;

/// What is left to be read of a query.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let pairs: Vec<(String, String)> = form_urlencoded::parse(text.as_bytes())
            .into_owned()
            .collect();
        // What is not UTF-8 was replaced, and would be another text.
        let is_replaced = |text: &str| text.contains('\u{fffd}');
        match pairs
            .iter()
            .any(|(name, value)| is_replaced(name) || is_replaced(value))
        {
            true => Err(Problem::bad_request("the query is not UTF-8")),
            false => Ok(Self(pairs)),
        }
    }

    /// All values of a parameter.
    pub(crate) fn all<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        let of_name =
            move |(known, value): &'q (String, String)| (known == name).then_some(value.as_str());
        self.0.iter().filter_map(of_name)
    }

    /// The value of a parameter that is given once at most.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The same, as its type.
    pub(crate) fn read<T: FromStr<Err: Into<gatekey::Error>>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, Problem> {
        let value = self
            .one(name)
            .map(|value| value.parse().map_err(Into::into));
        Ok(value.transpose()?)
    }

    /// The same, as a type that the standard library reads.
    pub(crate) fn plain<T: FromStr>(&self, name: &str) -> Result<Option<T>, Problem> {
        let Some(value) = self.one(name) else {
            return Ok(None);
        };
        // `+7` reads as a number too.
        match value.parse() {
            Ok(read) if !value.starts_with(['+', '-']) => Ok(Some(read)),
            _ => Err(Problem::bad_request(format!(
                "the parameter {name} is not of its form"
            ))),
        }
    }

    /// The same, as a type that is written as a text in JSON.
    pub(crate) fn text<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Problem> {
        let Some(value) = self.one(name) else {
            return Ok(None);
        };
        let text = serde_json::Value::String(value.to_owned());
        let refuse = |error| Problem::bad_request(format!("the parameter {name}: {error}"));
        serde_json::from_value(text).map(Some).map_err(refuse)
    }

    /// Refuses parameters that an endpoint does not have, and those that stand twice.
    pub(crate) fn validate(&self, known: &[Parameter]) -> Result<(), Problem> {
        for (at, (name, _)) in self.0.iter().enumerate() {
            let Some(parameter) = known.iter().find(|known| known.name == name) else {
                let why = format!("there is no parameter {name:?} here");
                return Err(Problem::bad_request(why));
            };
            let mut earlier = self.0.iter().take(at);
            if !parameter.is_repeated && earlier.any(|(other, _)| other == name) {
                let why = format!("the parameter {name} is given twice");
                return Err(Problem::bad_request(why));
            }
        }
        Ok(())
    }
}
