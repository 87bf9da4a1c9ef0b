# The whole system on this machine: `python -m localstack.provider` speaks the gateway's API over processes.
terraform {
  required_version = ">= 1.5"
}

variable "gateway_url" {
  description = "Where the provider listens."
  type        = string
  default     = "http://127.0.0.1:8081"
}

variable "password_file" {
  description = "The provider's password file."
  type        = string
}

variable "state_folder" {
  description = "An absolute path: documents and objects are kept there."
  type        = string
}

variable "secrets" {
  description = "Names of the keys that were handed to the gateway by `skytally deploy secrets`."
  type        = set(string)
}

variable "function_settings" {
  description = "Settings of single functions."
  type        = map(map(string))
  default     = {}
}

variable "cli" {
  description = "The skytally command."
  type        = string
  default     = "skytally"
}

module "functions" {
  source = "../../functions"

  gateway_url       = var.gateway_url
  password_file     = var.password_file
  image             = "skytally:laptop"
  cli               = var.cli
  secrets           = var.secrets
  function_settings = var.function_settings

  settings = {
    SKYTALLY_DOCUMENTS = "sqlite:///${var.state_folder}/documents.sqlite"
    SKYTALLY_OBJECTS   = "file://${var.state_folder}/objects"
  }
}

output "urls" {
  description = "Where each function answers."
  value       = module.functions.urls
}
