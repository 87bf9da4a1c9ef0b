output "objects_url" {
  description = "The value of SKYTALLY_OBJECTS."
  value       = "s3://${aws_s3_bucket.objects.id}"
}
