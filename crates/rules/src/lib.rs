//! What may leave the building: deadband, minimum interval and change-only rules.
