# OpenFaaS, a bucket on Ceph's S3, and Elasticsearch. The aws provider speaks to every S3; credentials as it finds them.
terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.80, < 7.0"
    }
  }
}

provider "aws" {
  region                      = "us-east-1"
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true

  endpoints {
    s3 = var.s3_endpoint
  }
}

# Ceph takes If-None-Match but knows no policy condition for it; `skytally doctor` tries it for real, and so does every function.
module "storage" {
  source = "../../storage-s3"

  bucket                    = var.bucket
  enforce_conditional_marks = false
  encryption                = false
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
  secret_files  = { s3-credentials = var.s3_credentials_file }

  # An ingress in front of the gateway writes X-Forwarded-For, and the gateway adds nothing; without one this must be 0.
  settings = {
    AWS_SHARED_CREDENTIALS_FILE = "${module.skytally.secrets_folder}/s3-credentials"
    SKYTALLY_S3_ENDPOINT        = var.s3_endpoint
    SKYTALLY_TRUSTED_HOPS       = "1"
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
