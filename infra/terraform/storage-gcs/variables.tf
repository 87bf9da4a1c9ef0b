variable "bucket" {
  description = "The bucket of deposits, marks and evidence; nothing else may lie in it."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "bucket must be a valid bucket name of 3 to 63 characters."
  }
}

variable "location" {
  description = "Where the bucket lies."
  type        = string
}

variable "service_account" {
  description = "The service account as which the functions use the bucket: its e-mail address."
  type        = string

  validation {
    condition     = can(regex("^[^@\\s]+@[^@\\s]+$", var.service_account))
    error_message = "service_account must be an e-mail address."
  }
}

variable "lifecycle_backstop" {
  description = "Let the store remove what the sweep should have removed long ago. It works in whole days and late, so it is never the expiry."
  type        = bool
  default     = true
}
