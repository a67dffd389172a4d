//! What can happen, made up at random.

use proptest::collection::vec;
use proptest::prelude::*;

/// Something happens to one event; the call is made twice if its answer got lost.
#[derive(Debug, Clone)]
pub struct Step {
    pub event: usize,
    pub twice: bool,
    pub deed: Deed,
}

#[derive(Debug, Clone)]
pub enum Deed {
    Place(Order),
    /// A hold that there was before, asked for again.
    PlaceAgain(usize),
    Look(usize, Shown),
    /// Nothing is shown when an order ends.
    Release(usize, Option<Shown>),
    Extend(usize, Shown, i64),
    Attach(usize, Shown),
    Detach(usize, Shown),
    /// An order stands on the hold, but Redis loses that it was told so.
    AttachUnheard(usize),
    /// Orders are paid for, together; and Redis hears of it at once, or later.
    Pay {
        order: usize,
        count: usize,
        told: bool,
    },
    /// Redis hears of something that happened earlier, and maybe hears it again.
    Tell {
        which: usize,
        again: bool,
    },
    Resize {
        pool: usize,
        by: i32,
        end: End,
    },
    /// Postgres loses its last changes of a pool.
    LoseChanges {
        pool: usize,
        number: i64,
    },
    AddPool(usize),
    RemovePool(usize),
    Pass(i64),
    /// Somebody reads the books, for a restoration that comes later.
    See,
    Restore {
        only_known: bool,
        late: bool,
    },
    Lose,
    ForgetScripts,
}

#[derive(Debug, Clone)]
pub struct Order {
    pub buyer: u8,
    pub items: Vec<(usize, i32)>,
    /// Whether each pool is asked for once, or for each item anew.
    pub summed: bool,
    /// In seconds; it may be over at once.
    pub lives: i64,
    pub ordered: bool,
    pub most_holds: u32,
    pub sale: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    Right,
    Wrong,
}

/// What becomes of places that were set aside to make a pool smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Done,
    Refused,
    /// Whoever set them aside is gone.
    Died,
}

/// The capacities of an event's pools, and which of them each type draws on.
pub type Shape = (Vec<i32>, Vec<u8>);

pub fn story(events: usize, steps: usize) -> impl Strategy<Value = (Vec<Shape>, Vec<Step>)> {
    let shape = (vec(1..15_i32, 1..=5), vec(1..32_u8, 1..=4));
    (vec(shape, events), vec(step(events), steps))
}

fn step(events: usize) -> impl Strategy<Value = Step> {
    let parts = (0..events, prop::bool::weighted(0.25), deed());
    parts.prop_map(|(event, twice, deed)| Step { event, twice, deed })
}

fn deed() -> impl Strategy<Value = Deed> {
    let one = || 0..64_usize;
    let shown = || prop_oneof![5 => Just(Shown::Right), 1 => Just(Shown::Wrong)];
    let pay = (one(), 1..4_usize, any::<bool>());
    let end = prop_oneof![2 => Just(End::Done), 1 => Just(End::Refused), 1 => Just(End::Died)];
    let resize = (one(), prop_oneof![-6..0, 1..5], end);
    prop_oneof![
        12 => order().prop_map(Deed::Place),
        2 => one().prop_map(Deed::PlaceAgain),
        3 => (one(), shown()).prop_map(|(hold, shown)| Deed::Look(hold, shown)),
        4 => (one(), prop::option::of(shown())).prop_map(|(hold, shown)| Deed::Release(hold, shown)),
        3 => (one(), shown(), 1..90_i64).prop_map(|(hold, shown, by)| Deed::Extend(hold, shown, by)),
        7 => (one(), shown()).prop_map(|(hold, shown)| Deed::Attach(hold, shown)),
        2 => (one(), shown()).prop_map(|(hold, shown)| Deed::Detach(hold, shown)),
        1 => one().prop_map(Deed::AttachUnheard),
        5 => pay.prop_map(|(order, count, told)| Deed::Pay { order, count, told }),
        4 => (one(), any::<bool>()).prop_map(|(which, again)| Deed::Tell { which, again }),
        4 => resize.prop_map(|(pool, by, end)| Deed::Resize { pool, by, end }),
        2 => (one(), 1..4_i64).prop_map(|(pool, number)| Deed::LoseChanges { pool, number }),
        2 => one().prop_map(Deed::AddPool),
        2 => one().prop_map(Deed::RemovePool),
        5 => (0..70_i64).prop_map(Deed::Pass),
        4 => any::<(bool, bool)>().prop_map(|(only_known, late)| Deed::Restore { only_known, late }),
        2 => Just(Deed::See),
        1 => Just(Deed::Lose),
        1 => Just(Deed::ForgetScripts),
    ]
}

fn order() -> impl Strategy<Value = Order> {
    let items = (vec((0..4_usize, 1..4_i32), 1..4), any::<bool>());
    let sale = prop_oneof![Just(String::new()), any::<String>()];
    let parts = (
        0..4_u8,
        items,
        0..90_i64,
        prop::bool::weighted(0.2),
        1..4_u32,
        sale,
    );
    parts.prop_map(
        |(buyer, (items, summed), lives, ordered, most_holds, sale)| Order {
            buyer,
            items,
            summed,
            lives,
            ordered,
            most_holds,
            sale,
        },
    )
}
