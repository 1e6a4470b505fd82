//! CoAP message layer and exchanges as state machines over coap-lite's messages.
