# OpenFaaS anywhere, and a bucket on Google Cloud Storage.
terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0, < 8.0"
    }
  }
}

provider "google" {
  project = var.project
}

module "storage" {
  source = "../../storage-gcs"

  bucket          = var.bucket
  location        = var.location
  service_account = var.service_account
}

module "skytally" {
  source = "../.."

  gateway_url   = var.gateway_url
  password_file = var.password_file
  image         = var.image
  keys_folder   = var.keys_folder
  objects_url   = module.storage.objects_url
  documents_url = var.documents_url
  search        = var.search
  secret_files  = { gcs-account = var.service_account_file }

  # An ingress in front of the gateway writes X-Forwarded-For, and the gateway adds nothing; without one this must be 0.
  settings = {
    GOOGLE_APPLICATION_CREDENTIALS = "${module.skytally.secrets_folder}/gcs-account"
    SKYTALLY_TRUSTED_HOPS          = "1"
  }
}

output "urls" {
  description = "Where each function answers."
  value       = module.skytally.urls
}

output "deployment" {
  description = "What is wanted: `terraform output -json deployment | skytally deploy status -` compares it with what runs."
  value       = module.skytally.deployment
}
