# No versions and no soft delete: what was claimed is to be gone. Google encrypts at rest whatever is asked; deposits are sealed besides.
resource "google_storage_bucket" "objects" {
  name                        = var.bucket
  location                    = var.location
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  versioning {
    enabled = false
  }

  soft_delete_policy {
    retention_duration_seconds = 0
  }

  # A deposit lives 7 days at most and a mark 30 days beyond it.
  dynamic "lifecycle_rule" {
    for_each = var.lifecycle_backstop ? { prep = 10, idempotency = 10, mark = 45, audit = 400 } : {}

    content {
      action {
        type = "Delete"
      }

      condition {
        age            = lifecycle_rule.value
        matches_prefix = ["${lifecycle_rule.key}/"]
      }
    }
  }
}

# Google knows no policy on preconditions. The functions' account may not change the bucket, so it cannot turn versions on either.
resource "google_storage_bucket_iam_member" "functions" {
  bucket = google_storage_bucket.objects.name
  role   = "roles/storage.objectUser"
  member = "serviceAccount:${var.service_account}"
}
