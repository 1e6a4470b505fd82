mod payload;
mod placing;
mod session;
