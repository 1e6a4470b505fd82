//! MQTT 3.1.1 and 5.0: packet codec and connection state machine, without I/O.
