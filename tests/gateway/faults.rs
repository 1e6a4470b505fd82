//! Cases of docs/fault-catalogue.md: about who may what and peers that hold on to what they get (identity.22), and about
//! uplinks whose far side or line is bad (uplink.43).

mod lines;
mod m05;
mod m09;
mod m11;
mod m13;
mod m14;
mod m15;
mod m16;
mod m17;
mod plant;
mod s05;
mod s12;
mod s13;
mod s14;
mod s15;
mod s16;
mod s17;
mod s21;
mod u01;
mod u02;
mod u03;
mod u04;
mod u05;
mod u09;
mod u10;
mod w01;
mod w07;

/// Returns `deep` in the tier of all cases, and `every` on each change.
fn figure<T>(every: T, deep: T) -> T {
    if std::env::var("TIDEGATE_TIER").is_ok_and(|tier| tier == "all") { deep } else { every }
}
