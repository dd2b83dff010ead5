//! What the model reads of an object's metadata.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub(super) fn object_name(metadata: &ObjectMeta) -> String {
    metadata.name.clone().unwrap_or_default()
}

pub(super) fn uid(metadata: &ObjectMeta) -> String {
    metadata.uid.clone().unwrap_or_default()
}

/// Who comes first of several that want the same: the oldest. Kubernetes tells ages in whole seconds;
/// of those from one second it is who has it already.
pub(super) fn precedence(metadata: &ObjectMeta, has_it: bool) -> impl Ord + use<> {
    let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
    (created, !has_it, uid(metadata))
}
