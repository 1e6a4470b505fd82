mod forget;
mod payload;
mod placing;
mod rig;
mod room;
mod session;
