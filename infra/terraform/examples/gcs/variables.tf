variable "gateway_url" {
  description = "The OpenFaaS gateway."
  type        = string
}

variable "password_file" {
  description = "File with the password of the gateway's user admin."
  type        = string
}

variable "image" {
  description = "The image that holds all functions, by its tag."
  type        = string
}

variable "keys_folder" {
  description = "Folder of the keys that `skytally keys` makes."
  type        = string
}

variable "project" {
  description = "The Google project of the bucket."
  type        = string
}

variable "location" {
  description = "The location of the bucket."
  type        = string
}

variable "service_account" {
  description = "The service account as which the functions use the bucket: its e-mail address."
  type        = string
}

variable "service_account_file" {
  description = "That account's key, as JSON."
  type        = string
}

variable "bucket" {
  description = "The bucket of deposits, marks and evidence."
  type        = string
}

variable "documents_url" {
  description = "Elasticsearch."
  type        = string
}

variable "search" {
  description = "Who sets Elasticsearch up, and where the functions' API keys are put."
  type = object({
    user          = string
    password_file = string
    keys_folder   = string
    ca_file       = optional(string, "")
    renewed       = optional(string, "1")
    ilm_days      = optional(number, 0)
  })
}
