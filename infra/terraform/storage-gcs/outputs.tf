output "objects_url" {
  description = "The value of SKYTALLY_OBJECTS."
  value       = "gs://${google_storage_bucket.objects.name}"
}
