//! Workspace model to desired catalog; desired and observed catalog to plan.
