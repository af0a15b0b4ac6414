//! The document: OpenAPI 3.1, made from the table of endpoints.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::call::{Endpoint, Parameter, Reply, schema_of};
use crate::endpoints;
use crate::problem::Problem;
use crate::schema;

/// The statuses of problems, with what each means here.
const PROBLEMS: [(&str, &str); 10] = [
    (
        "400",
        "The request is not of its form, or the engine refuses what it says",
    ),
    ("401", "There is no good admin key"),
    ("403", "The operator lacks the right"),
    ("404", "There is nothing of that name"),
    ("408", "The body took too long"),
    ("409", "The state of the store forbids the change"),
    ("413", "The body is too large"),
    ("415", "The body is not JSON"),
    (
        "500",
        "The store is damaged, or there is a fault in the server",
    ),
    ("503", "The store cannot be read or written now"),
];

/// The description of the API, as an OpenAPI 3.1 document in JSON, the same for every
/// store. The repository has it as `docs/openapi.json`.
///
/// ```
/// assert!(gatekey_admin::openapi().contains(r#""openapi": "3.1.0""#));
/// ```
#[must_use]
pub fn openapi() -> String {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in endpoints::all() {
        let path = paths
            .entry(endpoint.path)
            .or_insert_with(|| Value::Object(Map::new()));
        path[endpoint.method.to_ascii_lowercase()] = operation(endpoint, &mut generator);
    }
    let problem = schema_of::<Problem>(&mut generator);
    let responses: Map<String, Value> = PROBLEMS
        .iter()
        .map(|(status, about)| {
            let content = json!({"application/problem+json": {"schema": problem}});
            let told = json!({"description": about, "content": content});
            ((*status).to_owned(), told)
        })
        .collect();
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "gatekey admin",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What operators do with a gatekey store. Members and parameters that are not known are refused. Times are RFC 3339, durations ISO 8601 with days of 24 hours.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "security": [{"adminKey": []}],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": responses,
            "securitySchemes": {
                "adminKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An admin key, on the door that is TCP. The unix socket asks the system who its peer is.",
                },
            },
        },
    });
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

fn operation(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    if let Some(name) = crate::api::variable_of(endpoint.path) {
        let schema = match name {
            "id" => schema_of::<schema::KeyId>(generator),
            _ => schema_of::<schema::Prefix>(generator),
        };
        parameters.push(json!({
            "name": name,
            "in": "path",
            "required": true,
            "schema": schema,
        }));
    }
    let of_query = |parameter: &Parameter| {
        let mut schema = serde_json::to_value((parameter.schema)(generator)).unwrap_or_default();
        if parameter.is_repeated {
            schema = json!({"type": "array", "items": schema});
        }
        json!({
            "name": parameter.name,
            "in": "query",
            "description": parameter.about,
            "required": parameter.is_required,
            "schema": schema,
        })
    };
    parameters.extend(endpoint.query.iter().map(of_query));
    if endpoint.is_repeatable {
        parameters.push(json!({
            "name": "Idempotency-Key",
            "in": "header",
            "description": "A new name for this request, with which it can be asked again where the answer was lost.",
            "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
        }));
    }
    let (status, content) = match &endpoint.reply {
        Reply::Json(status, schema) => {
            let schema = schema(generator);
            (*status, json!({"application/json": {"schema": schema}}))
        }
        Reply::Other(kind) => (200, json!({*kind: {"schema": {"type": "string"}}})),
    };
    let mut responses = Map::new();
    let done = json!({"description": "Done", "content": content});
    responses.insert(status.to_string(), done);
    for (status, _) in PROBLEMS {
        // A request without a body has nothing that is too large.
        if endpoint.body.is_none() && matches!(status, "408" | "413" | "415") {
            continue;
        }
        let link = json!({"$ref": format!("#/components/responses/{status}")});
        responses.insert(status.to_owned(), link);
    }
    let mut operation = json!({
        "operationId": endpoint.id,
        "summary": endpoint.summary,
        "description": format!("Takes the right `{}`.", endpoint.right),
        "x-right": endpoint.right.name(),
        "responses": responses,
    });
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    if let Some(body) = endpoint.body {
        operation["requestBody"] = json!({
            "required": !endpoint.may_be_empty,
            "content": {"application/json": {"schema": body(generator)}},
        });
    }
    operation
}
