variable "gateway_url" {
  description = "The OpenFaaS gateway, or whatever speaks its REST API. http to another machine needs SKYTALLY_GATEWAY_INSECURE=1."
  type        = string
}

variable "password_file" {
  description = "File with the password of the gateway's user admin. Only its path is kept in the state."
  type        = string
}

variable "gateway_ca_file" {
  description = "CA of the gateway's certificate, where this machine does not know it; \"\": it does."
  type        = string
  default     = ""
}

variable "image" {
  description = "The image that holds all functions, by its tag."
  type        = string
}

variable "keys_folder" {
  description = "Folder of the keys that `skytally keys` makes; the functions that use them mount them."
  type        = string

  validation {
    condition     = length(fileset(var.keys_folder, "{master,wrapping,token}-*")) >= 3
    error_message = "keys_folder holds no keys: run `SKYTALLY_KEYS=… skytally keys init` first."
  }
}

variable "secret_files" {
  description = "More files that every function mounts beside the keys, by name: a store's credentials, a robot's token."
  type        = map(string)
  default     = {}
}

variable "documents_url" {
  description = "The value of SKYTALLY_DOCUMENTS."
  type        = string
}

variable "objects_url" {
  description = "The value of SKYTALLY_OBJECTS; a storage module answers it."
  type        = string

  validation {
    condition     = can(regex("^(file:///|s3://[^/]|gs://[^/])", var.objects_url))
    error_message = "objects_url must be file:///path, s3://bucket/prefix or gs://bucket/prefix."
  }
}

variable "search" {
  description = "Set Elasticsearch up and give each group of functions its own API key; null: documents_url needs none of it."
  type = object({
    user          = string
    password_file = string
    keys_folder   = string
    ca_file       = optional(string, "")
    prefix        = optional(string, "skytally")
    renewed       = optional(string, "1")
    key_days      = optional(number, 366)
    ilm_days      = optional(number, 0)
  })
  default = null
}

variable "settings" {
  description = "More settings of every function, by the names of the table in docs/settings.md."
  type        = map(string)
  default     = {}
}

variable "function_settings" {
  description = "Settings of single functions, by the function's name in paths (panda-collect); they win over settings."
  type        = map(map(string))
  default     = {}
}

variable "schedules" {
  description = "Other schedules of single timers, cron in UTC, by service name; an empty one switches the timer off."
  type        = map(string)
  default     = {}
}

variable "cli" {
  description = "The skytally command."
  type        = string
  default     = "skytally"
}
