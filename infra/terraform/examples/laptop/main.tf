# The whole system on this machine: `python -m localstack.provider` speaks the gateway's API over processes.
terraform {
  required_version = ">= 1.9"
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

variable "keys_folder" {
  description = "An absolute path: the keys that `skytally keys init` made."
  type        = string
}

variable "image" {
  description = "Processes are always of this checkout; another tag starts them anew, as an upgrade does."
  type        = string
  default     = "skytally:laptop"
}

variable "documents_url" {
  description = "Another document store than SQLite in state_folder."
  type        = string
  default     = null
}

variable "search" {
  description = "How Elasticsearch is set up, where documents_url names one that asks who calls."
  type        = any
  default     = null
}

variable "settings" {
  description = "More settings of every function."
  type        = map(string)
  default     = {}
}

variable "function_settings" {
  description = "Settings of single functions, by the function's name in paths (panda-collect)."
  type        = map(map(string))
  default     = {}
}

variable "schedules" {
  description = "Other schedules of single timers."
  type        = map(string)
  default     = {}
}

variable "cli" {
  description = "The skytally command."
  type        = string
  default     = "skytally"
}

module "skytally" {
  source = "../.."

  gateway_url       = var.gateway_url
  password_file     = var.password_file
  image             = var.image
  keys_folder       = var.keys_folder
  documents_url     = coalesce(var.documents_url, "sqlite:///${var.state_folder}/documents.sqlite")
  objects_url       = "file://${var.state_folder}/objects"
  search            = var.search
  settings          = var.settings
  function_settings = var.function_settings
  schedules         = var.schedules
  cli               = var.cli
}

output "urls" {
  description = "Where each function answers."
  value       = module.skytally.urls
}

output "deployment" {
  description = "What is wanted: `terraform output -json deployment | skytally deploy status -` compares it with what runs."
  value       = module.skytally.deployment
}
