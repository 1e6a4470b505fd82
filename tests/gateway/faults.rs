//! Cases of docs/fault-catalogue.md about who may what, and about peers that hold on to what they get (identity.22).

mod m05;
mod m09;
mod m11;
mod m13;
mod m14;
mod m15;
mod m16;
mod m17;
mod plant;
mod w01;
mod w07;

/// Returns `deep` in the tier of all cases, and `every` on each change.
fn figure<T>(every: T, deep: T) -> T {
    if std::env::var("TIDEGATE_TIER").is_ok_and(|tier| tier == "all") { deep } else { every }
}
