//! What pages are made of. Each block is a template of its own, so that nothing but a
//! template writes HTML, and every value is escaped where it is put in.

use askama::Template;
use gatekey::KeyState;

/// What stands in a cell of a table or beside a name.
#[derive(Debug, Clone, Template)]
#[template(path = "cell.html")]
pub(crate) enum Cell {
    Text(String),
    /// An identifier, in a fixed-width face.
    Code(String),
    Link {
        href: String,
        text: String,
    },
    /// A link to what has an id, by the id.
    Id {
        href: String,
        text: String,
    },
    /// A link and a smaller text below it.
    Entry {
        href: String,
        text: String,
        below: String,
    },
    /// A state: its word, and a shape by its class.
    State {
        class: &'static str,
        word: String,
    },
    /// An instant: what machines read, what people read, and a hint beside it.
    Time {
        iso: String,
        text: String,
        hint: String,
    },
    /// An instant that is near, as a time, with a badge.
    Soon {
        iso: String,
        text: String,
        hint: String,
    },
    Number(String),
    Chips(Vec<String>),
    /// A bar with its value in words.
    Meter {
        percent: u64,
        text: String,
    },
}

/// The class of a state: its shape and colour.
pub(crate) const fn class_of(state: KeyState) -> &'static str {
    match state {
        KeyState::Active => "active",
        KeyState::Retiring => "retiring",
        KeyState::Revoked => "revoked",
        KeyState::Suspended => "suspended",
        KeyState::Disabled => "disabled",
        KeyState::NotYetValid => "later",
        KeyState::Expired => "expired",
        _ => "unknown",
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) href: String,
    pub(crate) text: String,
    /// `primary`, `danger` or nothing.
    pub(crate) class: &'static str,
    pub(crate) current: bool,
}

impl Link {
    pub(crate) fn new(href: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            href: href.into(),
            text: text.into(),
            class: "",
            current: false,
        }
    }

    pub(crate) fn class(mut self, class: &'static str) -> Self {
        self.class = class;
        self
    }

    pub(crate) fn current(mut self, current: bool) -> Self {
        self.current = current;
        self
    }
}

/// A paragraph at the top.
#[derive(Debug, Template)]
#[template(path = "lead.html")]
pub(crate) struct Lead {
    pub(crate) text: String,
}

/// A box: `good`, `bad`, `warn` or `info`.
#[derive(Debug, Template)]
#[template(path = "note.html")]
pub(crate) struct Note {
    pub(crate) kind: &'static str,
    pub(crate) title: String,
    pub(crate) text: String,
    /// Lines below the text.
    pub(crate) items: Vec<String>,
}

impl Note {
    pub(crate) fn new(
        kind: &'static str,
        title: impl Into<String>,
        text: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            title: title.into(),
            text: text.into(),
            items: Vec::new(),
        }
    }
}

/// Names and values.
#[derive(Debug, Template)]
#[template(path = "facts.html")]
pub(crate) struct Facts {
    pub(crate) heading: String,
    pub(crate) rows: Vec<(String, Cell)>,
}

/// Links that look like buttons.
#[derive(Debug, Template)]
#[template(path = "actions.html")]
pub(crate) struct Actions {
    pub(crate) label: String,
    pub(crate) links: Vec<Link>,
}

/// A table. With `pick`, each row has a box to pick it, named by the row's own name.
#[derive(Debug, Default, Template)]
#[template(path = "table.html")]
pub(crate) struct Table {
    pub(crate) caption: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Row>,
    /// What stands there where there is no row.
    pub(crate) empty: String,
    pub(crate) next: Option<Link>,
    pub(crate) pick: Option<Pick>,
    /// Whether it stands inside another block.
    pub(crate) bare: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) cells: Vec<Cell>,
    pub(crate) id: String,
    /// What the box of the row is called.
    pub(crate) name: String,
}

impl From<Vec<Cell>> for Row {
    fn from(cells: Vec<Cell>) -> Self {
        Self {
            cells,
            ..Self::default()
        }
    }
}

/// What is done to the rows that are picked.
#[derive(Debug)]
pub(crate) struct Pick {
    pub(crate) action: String,
    pub(crate) label: String,
    pub(crate) all: String,
    pub(crate) what: Select,
    pub(crate) submit: String,
}

#[derive(Debug)]
pub(crate) struct Select {
    pub(crate) name: &'static str,
    pub(crate) label: String,
    pub(crate) options: Vec<Choice>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Choice {
    pub(crate) value: String,
    pub(crate) text: String,
    pub(crate) hint: String,
    pub(crate) chosen: bool,
}

impl Choice {
    pub(crate) fn new(value: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            text: text.into(),
            ..Self::default()
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    pub(crate) fn chosen(mut self, chosen: bool) -> Self {
        self.chosen = chosen;
        self
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Secret,
    Area,
    Number,
    Select,
    Radios,
    Checks,
    /// Several fields side by side, under one name.
    Group,
}

#[derive(Debug, Template)]
#[template(path = "field.html")]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) hint: String,
    pub(crate) kind: Kind,
    pub(crate) value: String,
    pub(crate) choices: Vec<Choice>,
    /// Those of a group.
    pub(crate) fields: Vec<Field>,
    pub(crate) required: bool,
    pub(crate) max: usize,
    /// The value of `autocomplete`.
    pub(crate) complete: &'static str,
    /// What must be typed, for the script to let the button go.
    pub(crate) expect: String,
    /// Values to choose from, or to type another.
    pub(crate) suggestions: Vec<String>,
    /// What was wrong with it, when the form comes back.
    pub(crate) problem: String,
}

impl Field {
    pub(crate) fn new(kind: Kind, name: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            label: label.into(),
            hint: String::new(),
            kind,
            value: String::new(),
            choices: Vec::new(),
            fields: Vec::new(),
            required: false,
            max: 0,
            complete: "off",
            expect: String::new(),
            suggestions: Vec::new(),
            problem: String::new(),
        }
    }

    /// Whether there is nothing to choose: the only choice stands there as it is.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.kind, Kind::Radios | Kind::Select) && self.choices.len() == 1
    }

    /// What describes it, by the ids of the elements: its hint, its problem.
    pub(crate) fn described_by(&self) -> String {
        let parts = [("h", &self.hint), ("e", &self.problem)];
        let ids: Vec<String> = parts
            .iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(letter, _)| format!("{letter}-{}", self.name))
            .collect();
        ids.join(" ")
    }

    pub(crate) fn suggestions(mut self, values: Vec<String>) -> Self {
        self.suggestions = values;
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    pub(crate) fn value(mut self, value: impl Into<String>) -> Self {
        self.value = value.into();
        self
    }

    pub(crate) fn choices(mut self, choices: Vec<Choice>) -> Self {
        self.choices = choices;
        self
    }

    pub(crate) fn fields(mut self, fields: impl IntoIterator<Item = Field>) -> Self {
        self.fields = fields.into_iter().collect();
        self
    }

    pub(crate) fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(crate) fn max(mut self, characters: usize) -> Self {
        self.max = characters;
        self
    }

    pub(crate) fn expect(mut self, text: impl Into<String>) -> Self {
        self.expect = text.into();
        self
    }
}

#[derive(Debug, Template)]
#[template(path = "form.html")]
pub(crate) struct Form {
    pub(crate) method: &'static str,
    pub(crate) action: String,
    pub(crate) heading: String,
    pub(crate) hidden: Vec<(String, String)>,
    pub(crate) fields: Vec<Field>,
    pub(crate) submit: String,
    /// `primary` or `danger`.
    pub(crate) class: &'static str,
    pub(crate) cancel: Option<Link>,
    /// What was wrong, when the form comes back.
    pub(crate) problem: String,
    pub(crate) problem_title: String,
    /// The name of the region, where there are several forms.
    pub(crate) inline: bool,
}

impl Form {
    pub(crate) fn post(action: impl Into<String>, submit: impl Into<String>) -> Self {
        Self {
            method: "post",
            action: action.into(),
            heading: String::new(),
            hidden: Vec::new(),
            fields: Vec::new(),
            submit: submit.into(),
            class: "primary",
            cancel: None,
            problem: String::new(),
            problem_title: String::new(),
            inline: false,
        }
    }

    pub(crate) fn get(action: impl Into<String>, submit: impl Into<String>) -> Self {
        Self {
            method: "get",
            class: "",
            ..Self::post(action, submit)
        }
    }

    pub(crate) fn danger(mut self) -> Self {
        self.class = "danger";
        self
    }

    pub(crate) fn plain(mut self) -> Self {
        self.class = "";
        self
    }

    pub(crate) fn inline(mut self) -> Self {
        self.inline = true;
        self
    }

    pub(crate) fn heading(mut self, text: impl Into<String>) -> Self {
        self.heading = text.into();
        self
    }

    pub(crate) fn field(mut self, field: Field) -> Self {
        self.fields.push(field);
        self
    }

    pub(crate) fn hidden(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.hidden.push((name.into(), value.into()));
        self
    }

    pub(crate) fn cancel(mut self, href: impl Into<String>, text: impl Into<String>) -> Self {
        self.cancel = Some(Link::new(href, text));
        self
    }

    pub(crate) fn problem(mut self, title: String, text: String) -> Self {
        self.problem_title = title;
        self.problem = text;
        self
    }

    /// Says at one of the fields what was wrong with it.
    pub(crate) fn problem_at(mut self, name: &str, text: &str) -> Self {
        let field = self.fields.iter_mut().find(|field| field.name == name);
        if let Some(field) = field {
            text.clone_into(&mut field.problem);
        }
        self
    }
}

/// A chart of usage, with its numbers in words and in a table.
#[derive(Debug, Template)]
#[template(path = "chart.html")]
pub(crate) struct Chart {
    pub(crate) heading: String,
    /// What stands there where nothing was used.
    pub(crate) empty: String,
    /// As SVG, of numbers and instants alone.
    pub(crate) bars: String,
    pub(crate) granted: String,
    pub(crate) denied: String,
    pub(crate) highest: String,
    pub(crate) from: String,
    pub(crate) to: String,
    /// Why it was denied, and how often.
    pub(crate) reasons: Vec<String>,
    pub(crate) reasons_label: String,
    pub(crate) table: Table,
    pub(crate) as_table: String,
}

/// A token, shown this once.
#[derive(Template)]
#[template(path = "token.html")]
pub(crate) struct Shown {
    pub(crate) token: zeroize::Zeroizing<String>,
    pub(crate) label: String,
    pub(crate) once: String,
    pub(crate) copy: String,
    pub(crate) copied: String,
    pub(crate) by_hand: String,
    pub(crate) stored: Link,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shown(token withheld)")
    }
}

/// The steps of a rotation.
#[derive(Debug, Template)]
#[template(path = "steps.html")]
pub(crate) struct Steps {
    pub(crate) label: String,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug)]
pub(crate) struct Step {
    /// `done`, `now` or `later`; `left` where it was not done and is not to be any more.
    pub(crate) class: &'static str,
    /// What the class says, in a word.
    pub(crate) word: String,
    pub(crate) title: String,
    pub(crate) text: String,
    /// Where the script asks whether the step is done.
    pub(crate) poll: String,
    pub(crate) polling: String,
    pub(crate) link: Option<Link>,
}

/// The whole document, in the crate's own layout.
#[derive(Debug, Template)]
#[template(path = "document.html")]
pub(crate) struct Document<'a> {
    pub(crate) lang: &'a str,
    pub(crate) title: &'a str,
    pub(crate) brand: &'a str,
    pub(crate) home: &'a str,
    pub(crate) logo: Option<String>,
    pub(crate) head: &'a str,
    pub(crate) nav: &'a str,
    pub(crate) main: &'a str,
    pub(crate) skip: String,
    pub(crate) foot: String,
    pub(crate) who: String,
}

#[derive(Debug, Template)]
#[template(path = "head.html")]
pub(crate) struct Head<'a> {
    pub(crate) styles: Vec<String>,
    pub(crate) script: &'a str,
}

#[derive(Debug, Template)]
#[template(path = "nav.html")]
pub(crate) struct Nav<'a> {
    pub(crate) label: String,
    pub(crate) links: &'a [Link],
    pub(crate) out: Option<(String, String)>,
}

#[derive(Debug, Template)]
#[template(path = "main.html")]
pub(crate) struct Main<'a> {
    pub(crate) title: &'a str,
    pub(crate) blocks: &'a str,
}

/// Blocks that were written, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    pub(crate) html: zeroize::Zeroizing<String>,
    broken: bool,
}

impl Blocks {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn push(&mut self, block: &impl Template) {
        match block.render() {
            Ok(text) => self.html.push_str(&zeroize::Zeroizing::new(text)),
            Err(_) => self.broken = true,
        }
    }

    pub(crate) fn with(mut self, block: &impl Template) -> Self {
        self.push(block);
        self
    }

    /// Whether a template failed.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }
}
