//! The steps of a sequence: small numbers, so that a failing sequence shrinks
//! to something that a person can follow.

use std::fmt;
use std::ops::Range;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

pub(crate) const PREFIXES: [&str; 3] = ["k", "k_x", "zz"];
/// With an owner that another is a prefix of, and is not above.
pub(crate) const OWNERS: [&str; 6] = ["a", "a/b", "a/b/c", "a/bc", "d", "d/e"];
/// The second is shared by the keys of an owner; the third no keyspace begins with.
pub(crate) const PLANS: [&str; 3] = ["own", "team", "late"];
pub(crate) const NAMES: [&str; 6] = ["p0", "p1", "p2", "p3", "p4", "p5"];
/// What each choice of a network allows, in CIDR notation.
pub(crate) const NETWORKS: [&[&str]; 4] = [
    &[],
    &["10.0.0.0/8"],
    &["192.0.2.7", "2001:db8::/32"],
    &["10.0.0.0/8", "10.0.0.0/8"],
];
/// Addresses, and for each choice of networks whether it is inside.
pub(crate) const SOURCES: [(&str, [bool; 3]); 4] = [
    ("10.1.2.3", [true, true, false]),
    ("::ffff:10.1.2.3", [true, true, false]),
    ("2001:db8::7", [true, false, true]),
    ("192.0.2.8", [true, false, false]),
];

/// The positions in one of these.
pub(crate) fn each_of<T>(table: &[T]) -> Range<u8> {
    0..u8::try_from(table.len()).unwrap()
}

/// A sequence, and where it runs.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) setting: Setting,
    pub(crate) ops: Vec<Op>,
}

/// One step a line.
impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.setting)?;
        for (at, op) in self.ops.iter().enumerate() {
            writeln!(f, "{at:4}: {op:?}")?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) resident: Resident,
    pub(crate) on_file: bool,
    pub(crate) peppered: bool,
    /// Whether every token is verified after every step, or now and then.
    pub(crate) sweeps: bool,
    /// Whether keys lag behind their owners, where these have more than one, until a flush.
    pub(crate) lags: bool,
    /// The keyspaces that are there from the beginning: "k" and "k_x".
    pub(crate) keyspaces: [NewSpace; 2],
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Resident {
    None,
    Tiny,
    Default,
}

/// Which key: counted back from the one issued last, round and round.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pick {
    /// Among those that are not over, if there are any.
    Good(u8),
    /// Among all that were ever issued.
    Any(u8),
}

/// So many times [`super::plain::TICK`].
pub(crate) type Ticks = u8;

#[derive(Debug, Clone)]
pub(crate) enum Op {
    CreateKeyspace(u8, NewSpace),
    UpdateKeyspace(u8, SpaceEdit),
    Issue(Spec),
    IssueBatch(Vec<Spec>),
    Verify(Pick, Ask),
    VerifyForged(Pick, Forgery),
    Update(Pick, Edit),
    Rotate(Pick, Ticks, Edit),
    Revoke(Pick, u8),
    RevokeToken(Pick, Option<Forgery>),
    RevokeOwner(u8),
    RevokeKeyspace(u8),
    Disable(Pick),
    Enable(Pick),
    Suspend(u8),
    Resume(u8),
    Purge(Ticks),
    Flush,
    Advance(Ticks),
    /// To the next instant at which a key begins or ends, or one millisecond
    /// before it.
    ToTheNextEdge {
        before: bool,
    },
    StepBack(Ticks),
    /// With one more pepper, where the store has peppers.
    Reopen {
        pepper: bool,
    },
    /// The process ends without a word, and the store is opened again.
    Crash,
    List(Filter),
    LookAtAll,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Policy {
    Superseding,
    Refusing,
    Many,
    Cap(u8),
}

#[derive(Debug, Clone)]
pub(crate) struct NewSpace {
    pub(crate) policy: Policy,
    pub(crate) default: Option<Ticks>,
    pub(crate) max: Option<Ticks>,
}

#[derive(Debug, Clone)]
pub(crate) struct SpaceEdit {
    pub(crate) policy: Option<Policy>,
    pub(crate) name: Option<NameEdit>,
    pub(crate) default: Option<Option<Ticks>>,
    pub(crate) max: Option<Option<Ticks>>,
    /// Which of [`PLANS`] is for how many requests now: 0 for no limit.
    pub(crate) plan: Option<(u8, u32)>,
    pub(crate) default_plan: Option<Option<u8>>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum NameEdit {
    Append(u8),
    Retire(u8),
}

#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) keyspace: u8,
    pub(crate) owner: u8,
    pub(crate) rights: Rights,
    pub(crate) expiry: Life,
    /// Ticks from now.
    pub(crate) not_before: Option<i8>,
    pub(crate) network: u8,
    pub(crate) text: u8,
    /// Which of [`PLANS`]; `None`: the keyspace's default.
    pub(crate) plan: Option<u8>,
    pub(crate) quota: Option<QuotaSpec>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct QuotaSpec {
    pub(crate) requests: u8,
    pub(crate) refill: Option<Period>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Period {
    Day,
    Month,
}

/// Permissions: a mask over [`NAMES`], given as names or as bits.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rights {
    Names(u8),
    Mask(u8),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Life {
    Default,
    Never,
    /// Ticks from now.
    At(i8),
    After(Ticks),
}

#[derive(Debug, Clone)]
pub(crate) struct Edit {
    pub(crate) text: Option<u8>,
    pub(crate) rights: Option<RightsEdit>,
    pub(crate) expiry: Option<Life>,
    pub(crate) network: Option<u8>,
    pub(crate) plan: Option<Option<u8>>,
    pub(crate) quota: Option<Option<QuotaSpec>>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum RightsEdit {
    Replace(Rights),
    Add(u8),
    Withdraw(u8),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Ask {
    pub(crate) keyspace: Option<u8>,
    pub(crate) mask: u8,
    pub(crate) names: u8,
    pub(crate) source: Option<u8>,
    pub(crate) cost: u8,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Forgery {
    Check,
    Secret,
    Prefix,
    Id,
}

#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) keyspace: Option<u8>,
    pub(crate) owner: Option<(u8, bool)>,
    pub(crate) state: Option<u8>,
    pub(crate) text: Option<u8>,
    pub(crate) within: Option<Ticks>,
    pub(crate) page: usize,
}

/// The text that is too long for a name.
pub(crate) const TOO_LONG: u8 = 3;

pub(crate) fn case() -> impl Strategy<Value = Case> {
    // Something to work on, and then anything.
    let issues = vec(spec().prop_map(Op::Issue), 0..5);
    (setting(), issues, vec(op(), 1..60)).prop_map(|(setting, issues, ops)| Case {
        setting,
        ops: [issues, ops].concat(),
    })
}

pub(crate) fn setting() -> impl Strategy<Value = Setting> {
    let resident = prop_oneof![
        2 => Just(Resident::None),
        3 => Just(Resident::Tiny),
        // Dear to make in debug mode.
        1 => Just(Resident::Default),
    ];
    (
        resident,
        prop_oneof![2 => Just(false), 1 => Just(true)],
        any::<bool>(),
        prop_oneof![1 => Just(false), 2 => Just(true)],
        any::<bool>(),
        [sound_keyspace(), sound_keyspace()],
    )
        .prop_map(
            |(resident, on_file, peppered, sweeps, lags, keyspaces)| Setting {
                resident,
                on_file,
                peppered,
                sweeps,
                lags,
                keyspaces,
            },
        )
}

fn keyspace() -> impl Strategy<Value = NewSpace> {
    let lifetime = |max: u8| option::weighted(0.25, 0..max);
    (policy(), lifetime(6), lifetime(20)).prop_map(|(policy, default, max)| NewSpace {
        policy,
        default,
        max,
    })
}

/// One that will not be refused.
fn sound_keyspace() -> impl Strategy<Value = NewSpace> {
    keyspace().prop_map(|mut new| {
        new.max = new.max.filter(|max| *max > 0);
        let max = new.max.unwrap_or(Ticks::MAX);
        new.default = new.default.filter(|default| (1..=max).contains(default));
        new
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        4 => Just(Policy::Many),
        4 => Just(Policy::Superseding),
        3 => Just(Policy::Refusing),
        3 => (1..4_u8).prop_map(Policy::Cap),
    ]
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let keyspace_at = each_of(&PREFIXES);
    let owner = each_of(&OWNERS);
    // The first few are below each other, so that suspensions overlap.
    let nested = prop_oneof![2 => 0..3_u8, 1 => each_of(&OWNERS)].boxed();
    prop_oneof![
        1 => (keyspace_at.clone(), keyspace()).prop_map(|(at, new)| Op::CreateKeyspace(at, new)),
        5 => (keyspace_at.clone(), space_edit()).prop_map(|(at, edit)| Op::UpdateKeyspace(at, edit)),
        16 => spec().prop_map(Op::Issue),
        3 => vec(spec(), 0..5).prop_map(Op::IssueBatch),
        8 => (pick(), ask()).prop_map(|(key, ask)| Op::Verify(key, ask)),
        2 => (pick(), forgery()).prop_map(|(key, forgery)| Op::VerifyForged(key, forgery)),
        8 => (pick(), edit()).prop_map(|(key, edit)| Op::Update(key, edit)),
        12 => (pick(), ticks(), edit()).prop_map(|(key, grace, edit)| Op::Rotate(key, grace, edit)),
        3 => (pick(), 0..6_u8).prop_map(|(key, reason)| Op::Revoke(key, reason)),
        1 => (pick(), option::of(forgery())).prop_map(|(key, f)| Op::RevokeToken(key, f)),
        1 => owner.prop_map(Op::RevokeOwner),
        1 => keyspace_at.prop_map(Op::RevokeKeyspace),
        3 => pick().prop_map(Op::Disable),
        3 => pick().prop_map(Op::Enable),
        3 => nested.clone().prop_map(Op::Suspend),
        7 => nested.prop_map(Op::Resume),
        2 => ticks().prop_map(Op::Purge),
        2 => Just(Op::Flush),
        3 => ticks().prop_map(Op::Advance),
        6 => any::<bool>().prop_map(|before| Op::ToTheNextEdge { before }),
        2 => ticks().prop_map(Op::StepBack),
        2 => any::<bool>().prop_map(|pepper| Op::Reopen { pepper }),
        2 => Just(Op::Crash),
        3 => filter().prop_map(Op::List),
        10 => Just(Op::LookAtAll),
    ]
}

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![
        2 => (0..8_u8).prop_map(Pick::Good),
        1 => (0..30_u8).prop_map(Pick::Any),
    ]
}

fn ticks() -> impl Strategy<Value = Ticks> {
    0..9_u8
}

fn space_edit() -> impl Strategy<Value = SpaceEdit> {
    let policy = prop_oneof![9 => policy(), 1 => Just(Policy::Cap(0))];
    let name = each_of(&NAMES);
    let name = prop_oneof![
        name.clone().prop_map(NameEdit::Append),
        name.prop_map(NameEdit::Retire),
    ];
    (
        option::of(policy),
        option::of(name),
        option::weighted(0.3, option::of(ticks())),
        option::weighted(0.3, option::of(0..20_u8)),
        option::weighted(0.4, (each_of(&PLANS), 0..6_u32)),
        option::weighted(0.3, option::of(each_of(&PLANS))),
    )
        .prop_map(
            |(policy, name, default, max, plan, default_plan)| SpaceEdit {
                policy,
                name,
                default,
                max,
                plan,
                default_plan,
            },
        )
}

fn plan() -> impl Strategy<Value = u8> {
    prop_oneof![8 => 0..2_u8, 1 => Just(2)]
}

fn quota() -> impl Strategy<Value = QuotaSpec> {
    let refill = prop_oneof![
        Just(None),
        Just(Some(Period::Day)),
        Just(Some(Period::Month))
    ];
    (1..40_u8, refill).prop_map(|(requests, refill)| QuotaSpec { requests, refill })
}

fn spec() -> impl Strategy<Value = Spec> {
    (
        prop_oneof![15 => 0..2_u8, 1 => Just(2)],
        prop_oneof![each_of(&OWNERS), Just(2)],
        prop_oneof![8 => rights(0b111), 1 => rights(0b11_1111)],
        prop_oneof![3 => Just(Life::Default), 4 => life()],
        option::weighted(0.15, -2..6_i8),
        network(),
        text(),
        option::weighted(0.3, plan()),
        option::weighted(0.3, quota()),
    )
        .prop_map(
            |(keyspace, owner, rights, expiry, not_before, network, text, plan, quota)| Spec {
                keyspace,
                owner,
                rights,
                expiry,
                not_before,
                network,
                text,
                plan,
                quota,
            },
        )
}

fn rights(among: u8) -> impl Strategy<Value = Rights> {
    let mask = (0..=u8::MAX).prop_map(move |bits| bits & among);
    prop_oneof![
        mask.clone().prop_map(Rights::Names),
        mask.prop_map(Rights::Mask),
    ]
}

fn life() -> impl Strategy<Value = Life> {
    prop_oneof![
        1 => Just(Life::Default),
        1 => Just(Life::Never),
        2 => (-1..16_i8).prop_map(Life::At),
        4 => (0..16_u8).prop_map(Life::After),
    ]
}

fn network() -> impl Strategy<Value = u8> {
    prop_oneof![30 => Just(0), 4 => Just(1), 4 => Just(2), 1 => Just(3)]
}

fn text() -> impl Strategy<Value = u8> {
    prop_oneof![20 => 0..TOO_LONG, 1 => Just(TOO_LONG)]
}

fn edit() -> impl Strategy<Value = Edit> {
    let few = prop_oneof![4 => 0..8_u8, 1 => 0..64_u8].boxed();
    let rights = prop_oneof![
        rights(0b111).prop_map(RightsEdit::Replace),
        few.clone().prop_map(RightsEdit::Add),
        few.prop_map(RightsEdit::Withdraw),
    ];
    (
        option::weighted(0.3, text()),
        option::weighted(0.4, rights),
        option::weighted(0.3, life()),
        option::weighted(0.2, network()),
        option::weighted(0.2, option::weighted(0.8, plan())),
        option::weighted(0.2, option::weighted(0.8, quota())),
    )
        .prop_map(|(text, rights, expiry, network, plan, quota)| Edit {
            text,
            rights,
            expiry,
            network,
            plan,
            quota,
        })
}

fn ask() -> impl Strategy<Value = Ask> {
    let bits = || prop_oneof![2 => Just(0), 2 => 0..8_u8, 1 => 0..64_u8];
    (
        option::weighted(0.3, each_of(&PREFIXES)),
        bits(),
        bits(),
        option::of(each_of(&SOURCES)),
        prop_oneof![2 => 0..4_u8, 1 => 0..14_u8],
    )
        .prop_map(|(keyspace, mask, names, source, cost)| Ask {
            keyspace,
            mask,
            names,
            source,
            cost,
        })
}

fn forgery() -> impl Strategy<Value = Forgery> {
    prop_oneof![
        Just(Forgery::Check),
        Just(Forgery::Secret),
        Just(Forgery::Prefix),
        Just(Forgery::Id),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    (
        option::of(each_of(&PREFIXES)),
        option::of((each_of(&OWNERS), any::<bool>())),
        option::weighted(0.3, 0..7_u8),
        option::weighted(0.3, 1..TOO_LONG),
        option::of(0..20_u8),
        1..4_usize,
    )
        .prop_map(|(keyspace, owner, state, text, within, page)| Filter {
            keyspace,
            owner,
            state,
            text,
            within,
            page,
        })
}
