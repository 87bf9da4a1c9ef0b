variable "gateway_url" {
  description = "The OpenFaaS gateway, or whatever speaks its REST API."
  type        = string
}

variable "password_file" {
  description = "File with the password of the gateway's user admin."
  type        = string
}

variable "ca_file" {
  description = "CA of the gateway's certificate, where this machine does not know it; \"\": it does."
  type        = string
  default     = ""
}

variable "files" {
  description = "The file of each secret, by the secret's name."
  type        = map(string)

  validation {
    condition     = alltrue([for name in keys(var.files) : can(regex("^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", name))])
    error_message = "secrets are named by lower-case letters, digits, dots and dashes."
  }
}

variable "cli" {
  description = "The skytally command."
  type        = string
  default     = "skytally"
}
