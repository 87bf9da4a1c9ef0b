# OpenFaaS anywhere, and a bucket on AWS that refuses any mark which is not created once.
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
  region = var.region
}

module "storage" {
  source = "../../storage-s3"

  bucket = var.bucket
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
    AWS_DEFAULT_REGION          = var.region
    AWS_SHARED_CREDENTIALS_FILE = "${module.skytally.secrets_folder}/s3-credentials"
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
