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

variable "region" {
  description = "The region of the bucket."
  type        = string
}

variable "s3_credentials_file" {
  description = "The functions' own credentials for the bucket, in the form of ~/.aws/credentials."
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
